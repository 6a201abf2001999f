"""Lets a suite that is asked to end keep the figures that it has: a machine may be lent for minutes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class CutOffError(BaseException):
    """The command was asked to end (SIGTERM)."""


class Cutting:
    """What a suite measures piece by piece, until it is asked to end.

    Attributes:
        missing: the pieces that were not measured.
    """

    asked = False
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        """Nothing is missing yet."""
        self.missing: list[str] = []

    def measured(self, name: str, measure: Callable[[], T]) -> T | None:
        """Return what a piece comes to; None where the process is or was asked to end."""
        try:
            if Cutting.asked:
                raise CutOffError
            return measure()
        except BaseException:  # also an error that follows from the end, such as that of a loader's workers
            if not Cutting.asked:
                raise
            self.missing.append(name)
            return None

    def notes(self, figures: Sequence[object]) -> tuple[str, ...]:
        """Return a sentence that names what is missing, or nothing if all was measured.

        Raises:
            CutOffError: there are no figures.
        """
        if not self.missing:
            return ()
        if not figures:
            raise CutOffError
        return (f"Cut off: {', '.join(self.missing)} {'was' if len(self.missing) == 1 else 'were'} not measured.",)


@contextmanager
def listening() -> Iterator[None]:
    """Raise `CutOffError` in the block where this process is asked to end."""

    def raises(*_: object) -> None:
        Cutting.asked = True
        raise CutOffError

    before = signal.signal(signal.SIGTERM, raises)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        Cutting.asked = False
