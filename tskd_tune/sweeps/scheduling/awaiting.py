"""After which epochs a trial has to report, because a scheduler or a searcher waits for its numbers."""

from __future__ import annotations

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tskd_tune.sweeps.scheduling.schedulers import rungs_of


def awaited(searcher: Searcher, scheduler: TrialScheduler) -> frozenset[int] | None:
    """Return the numbers of trained epochs after which a trial reports at once; None for after every epoch.

    Between these epochs a trial may report several short epochs together, which saves a way to Ray's driver and back
    for each. Nothing is decided otherwise: a scheduler that says its rungs decides nothing between them.

    Args:
        searcher: Ray Tune's searcher; one that listens to results is told of each epoch by itself, unless it says that
            it reads all epochs of a result (``hears_several``).
        scheduler: Ray Tune's scheduler; one that neither lets every trial run to its end nor says its rungs
            (``brackets``) is asked after every epoch.
    """
    listens = type(searcher).on_trial_result is not Searcher.on_trial_result
    if listens and not getattr(searcher, "hears_several", False):
        return None
    lets_run = type(scheduler).on_trial_result is FIFOScheduler.on_trial_result
    return frozenset() if lets_run else rungs_of(scheduler)
