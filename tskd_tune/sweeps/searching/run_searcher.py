"""The searchers of a run: Ray Tune asks them for points, and a resumed run gives them its earlier results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

from ray.tune.search import Searcher

from tskd_tune.plain import Document
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.objectives import Goals, lead

Config = Document
"""The config of a trial, as Ray Tune takes it; `tskd_tune.sweeps.declared.configs` makes it."""

# Tune accepts this word in place of a config, although its annotations do not say so.
FINISHED = cast("Config", Searcher.FINISHED)


class RunSearcher(Searcher, ABC):
    """A searcher that learns from the run's own records, so it does not need the files that Ray Tune saves."""

    def __init__(self, goals: Goals | None) -> None:
        """Compare trials by the first metric among the goals; without goals, results need no metric."""
        metric, mode = lead(goals) if goals else (None, None)
        super().__init__(metric, mode)

    def set_search_properties(self, metric: str | None, mode: str | None, config: Config, **spec: object) -> bool:
        """Accept a metric and a mode only if they are this searcher's own."""
        return metric in (None, self.metric) and mode in (None, self.mode)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: `take_up` reads the run's own records."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: `take_up` reads the run's own records."""

    @abstractmethod
    def take_up(self, known: Mapping[int, Known], *, highest: int = -1) -> None:
        """Learn the trials of an earlier process of the run, before the first suggestion.

        Args:
            known: the trials that began, by their numbers.
            highest: the highest number of a trial's folder; new trials get higher numbers.
        """
