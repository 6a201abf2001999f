"""A command that is cut off keeps the figures that it has, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from benchmarks.bundle import ROOT
from benchmarks.cutting import CutOffError, Cutting, listening
from benchmarks.within import CUT_OFF

STARTS_ANOTHER = """
import subprocess, sys, time
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").write(str(left.pid))
time.sleep(float(sys.argv[2]))
sys.exit(7)
"""


def within(seconds: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.within", seconds, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize(("seconds", "sleeps", "code"), [("inf", "0", 7), ("3", "600", CUT_OFF)])
def test_what_a_command_leaves_running_is_ended_also_in_a_session_of_its_own(
    tmp_path: Path, seconds: str, sleeps: str, code: int
) -> None:
    """As the processes of Ray are."""
    noted = tmp_path / "pid"
    ended = within(seconds, STARTS_ANOTHER, str(noted), sleeps)
    assert ended.returncode == code
    assert not psutil.pid_exists(int(noted.read_text()))
    assert "1 processes were still running, and were killed" in ended.stderr


def test_a_command_that_is_cut_off_may_write_down_what_it_has(tmp_path: Path) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], "w").write("all"), sys.exit(0)))
open(sys.argv[1], "w").write("some")
time.sleep(600)
"""
    ended = within("3", code, str(tmp_path / "kept"))
    assert ended.returncode == CUT_OFF and not ended.stderr
    assert (tmp_path / "kept").read_text() == "all"


def test_a_command_that_ends_in_time_ends_as_alone() -> None:
    ended = within("600", "print(5)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "5\n", "")


def test_pieces_before_the_end_are_kept_and_those_behind_it_are_named() -> None:
    def measure(name: str) -> str:
        if name == "second":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return name

    cutting = Cutting()
    with listening():
        found = [cutting.measured(name, partial(measure, name)) for name in ("first", "second", "third")]
    assert found == ["first", None, None]
    assert cutting.notes(["first"]) == ("Cut off: second, third were not measured.",)
    with pytest.raises(CutOffError):
        cutting.notes([])


def test_an_error_that_is_no_end_is_raised() -> None:
    def wrong() -> None:
        raise RuntimeError("wrong")

    cutting = Cutting()
    with pytest.raises(RuntimeError, match="wrong"):
        cutting.measured("first", wrong)
    assert cutting.notes([]) == ()
