"""Handles signals: SIGTERM and SIGHUP act like Ctrl-C, and no signal interrupts a start or a clean-up."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from shlex import quote
from types import FrameType

Handler = Callable[[int, FrameType | None], None]
ENDING = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)


class Ended:
    """The signal that ended the command; SIGINT (Ctrl-C) if the system sent no other signal."""

    number: int = signal.SIGINT

    @classmethod
    def code(cls) -> int:
        """Return the exit code of a process that a signal ended: 128 plus the signal's number."""
        return 128 + cls.number

    @classmethod
    def by_system(cls) -> bool:
        """Tell whether the system ended the command; the system may have ended the command's child processes too."""
        return cls.number != signal.SIGINT


def continuing(run: object) -> str:
    """Say what an interrupted run keeps, and how to continue it; ``run`` is its folder or its address."""
    kept = "finished trainings are kept, and others resume from their last checkpoint"
    return f"{kept}; continue with: tskd-tune resume {quote(str(run))}"


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Make SIGTERM and SIGHUP act like Ctrl-C within the block; `Ended` records the signal.

    A signal that was ignored before, such as SIGHUP under ``nohup``, stays ignored.
    """
    Ended.number = signal.SIGINT
    with handled([number for number in ENDING if number != signal.SIGINT], _interrupt):
        yield


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Delay signals during the block and list them for the block; the first signal is handled after the block."""
    came: list[int] = []
    with handled(ENDING, lambda number, frame: came.append(number)):
        yield came
    if came:
        _call(signal.getsignal(came[0]), came[0], None)


@contextmanager
def handled(numbers: Collection[int], handler: Handler) -> Iterator[None]:
    """Handle signals within the block, except ignored signals; outside the main thread change nothing."""
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    signal.signal(number, handler)
                    stack.callback(partial(signal.signal, number, before or signal.SIG_DFL))
        yield


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Give the block a function that tells whether an ending signal has come, whoever handled the signal.

    Ray Tune handles Ctrl-C itself and then returns as if its trials had ended. Outside the main thread, where Python
    delivers no signal, the function returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = False
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def has_come() -> bool:
            nonlocal came
            with suppress(BlockingIOError):
                came = came or any(number in ENDING for number in reader.recv(4096))
            return came

        try:
            yield has_come
        finally:
            signal.set_wakeup_fd(before)


def reinstall() -> None:
    """Install Python's handlers again, after a library has replaced them at the level of C."""
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            before = signal.getsignal(number)
            if before is not None:
                signal.signal(number, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    Ended.number = number
    _call(signal.getsignal(signal.SIGINT), signal.SIGINT, frame)


def _call(handler: object, number: int, frame: FrameType | None) -> None:
    if not callable(handler):
        raise KeyboardInterrupt
    handler(number, frame)
