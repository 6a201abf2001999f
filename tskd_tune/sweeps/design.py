"""The design of a sweep: the numbers that the status of its run needs."""

from __future__ import annotations

from tskd_tune.records.design import Design
from tskd_tune.sweeps.schedulers import stops_trials
from tskd_tune.sweeps.schema import Sweep


def design_of(sweep: Sweep) -> Design:
    """Return the design of a sweep.

    Raises:
        InputError: a point is not a valid experiment.
    """
    lengths = {sweep.experiment_at(point).training.epochs for point in sweep.space().corners()}
    return Design(
        seeds=len(sweep.all_seeds()) if sweep.is_judged else 1,
        epochs=lengths.pop() if len(lengths) == 1 else None,
        searched=not sweep.is_exact,
        metric=sweep.metric,
        mode=sweep.mode,
        objectives=sweep.search.objectives is not None,
        at_most=stops_trials(sweep.scheduler.name),
    )
