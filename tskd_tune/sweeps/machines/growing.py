"""How many trials run at once: as many as the cluster holds at the time, as machines join and leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from ray.tune.search import ConcurrencyLimiter, Searcher

from tskd_tune.sweeps.machines.nodes import Amounts
from tskd_tune.sweeps.machines.resources import capacity

SECONDS: Final = 2.0
"""Seconds for which the number of trials that the cluster holds is taken as known."""


class Growing(ConcurrencyLimiter):
    """Lets a searcher suggest no more trials than the cluster holds.

    Ray Tune asks a searcher again and again, so more trials begin as soon as a machine joins. On one machine the number
    never changes, so a search suggests the same points each time.
    """

    def __init__(
        self,
        searcher: Searcher,
        wanted: Amounts,
        fixed: int | None = None,
        *,
        workers: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Limit ``searcher`` to ``fixed`` trials, or to those that have room for workers that take ``wanted``."""
        self._wanted = dict(wanted)
        self._workers = workers
        self._fixed = fixed
        self._clock = clock
        self._known = 1
        self._until: float | None = None
        super().__init__(searcher, self.max_concurrent)

    @property
    def max_concurrent(self) -> int:
        """The number of trials that may run now."""
        if self._fixed is not None:
            return self._fixed
        now = self._clock()
        if self._until is None or now > self._until:
            self._known, self._until = capacity(self._wanted, self._workers), now + SECONDS
        return self._known

    @max_concurrent.setter
    def max_concurrent(self, given: int) -> None:
        """Ignore the number that Ray's own class stores once."""
