"""SIGTERM and SIGHUP end what runs as Ctrl-C does, and never in the middle of a clean-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from tskd_tune.signals import Ended, as_interrupts, deferred, noticed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_a_batch_system_sends_is_an_interruption_with_its_own_exit_code(number: signal.Signals):
    outside = signal.signal(number, signal.SIG_DFL)  # under `nohup` the tests themselves ignore one of the two
    try:
        with pytest.raises(KeyboardInterrupt), as_interrupts():
            os.kill(os.getpid(), number)
        assert Ended.code() == 128 + number and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    with as_interrupts():
        assert Ended.code() == 130


def test_whoever_handles_an_interruption_hears_of_the_signal():
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with as_interrupts():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] and Ended.code() == 143


def test_a_signal_waits_for_the_end_of_a_clean_up():
    done = False
    with pytest.raises(KeyboardInterrupt), as_interrupts(), deferred() as came:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        done = bool(came)
    assert done


def test_under_nohup_a_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_in_the_background_of_a_shell_ends_too():
    # There SIGINT is ignored, so that Python has no handler of its own for it.
    program = """
        import os, signal
        from tskd_tune.cli.terminal import in_words
        in_words(lambda: os.kill(os.getpid(), signal.SIGTERM))()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    assert "interrupted; nothing was started" in done.stderr


def test_a_signal_that_another_handled_is_noticed():
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with noticed() as has_come:
            assert not has_come()
            signal.raise_signal(signal.SIGTERM)
            assert has_come() and has_come()
        with noticed() as has_come:
            assert not has_come(), "that of before is over"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_no_signal_comes():
    seen: list[bool] = []

    def look() -> None:
        with noticed() as has_come:
            seen.append(has_come())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False]
