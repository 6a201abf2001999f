"""How far a run is: bars on a terminal, lines where there is none, and a time left that was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from tskd_tune.cli.terminal import console
from tskd_tune.reports.tables import duration

# Before so many epochs and seconds a rate is a guess.
FEWEST_EPOCHS = 3
FEWEST_SECONDS = 2.0
STEP = 0.1


class Progress:
    """Follows the trainings of a run and shows how many epochs of all are done.

    The time left is the epochs left at the rate measured since the first epoch of this process; what an earlier
    process did counts as done and not for the rate.
    """

    def __init__(self, trainings: int, epochs: int, *, done: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """Expect ``trainings`` with ``epochs`` in all, ``done`` of which were trained before."""
        self._trainings = trainings
        self._epochs = epochs
        self._before = done
        self._clock = clock
        self._reached: dict[tuple[str, int], int] = {}
        self._here = 0
        self._began: float | None = None
        self._finished = 0
        self._failed = 0
        self._screen: Screen = Lines()

    def __enter__(self) -> Self:
        """Begin to show."""
        terminal = console()
        self._screen = Screen(terminal) if terminal.is_terminal else Lines()
        self._screen.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the screen in order."""
        self._screen.end()
