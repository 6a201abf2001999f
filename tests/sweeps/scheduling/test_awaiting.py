"""After which epochs a trial reports at once: at a scheduler's rungs, and where somebody listens to each epoch."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import Searcher

from tskd_tune.sweeps.scheduling.awaiting import awaited
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.sweeps.searching.listed_points import ListedPoints
from tskd_tune.sweeps.searching.searchers import OptunaSearcher


class Deaf(Searcher):
    """A searcher that hears only how trials end."""


class Listening(Searcher):
    """A searcher from outside that hears each epoch."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Hear."""


class Asked(FIFOScheduler):
    """A scheduler from outside that is asked after each epoch."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let the trial go on."""
        return self.CONTINUE


@pytest.mark.parametrize("name", sorted(SCHEDULERS.names()))
def test_each_scheduler_is_asked_where_it_compares(name: str):
    one: Any = SCHEDULERS.build(name, 240, [[20]], "val_top1", "max")
    wanted = {"fifo": frozenset(), "asha": frozenset({21, 63, 189}), "hyperband": frozenset({21, 63, 189})}
    assert awaited(Deaf("val_top1", "max"), one) == wanted.get(name)


def test_schedulers_from_outside_are_asked_after_every_epoch():
    for one in (AsyncHyperBandScheduler(), Asked()):  # type: ignore[no-untyped-call]
        assert awaited(Deaf("val_top1", "max"), one) is None


def test_a_searcher_that_listens_hears_every_epoch_by_itself_unless_it_reads_several():
    run_on = FIFOScheduler()  # type: ignore[no-untyped-call]
    assert awaited(Listening("val_top1", "max"), run_on) is None
    assert awaited(ListedPoints([]), run_on) == frozenset()
    assert OptunaSearcher.hears_several
