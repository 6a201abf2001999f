"""Checks a sweep or an experiment and estimates its cost, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tskd_tune import single
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import summaries, verify_data
from tskd_tune.experiment.identity import identity
from tskd_tune.records.wandb.rules import refuse
from tskd_tune.records.wandb.server import Place
from tskd_tune.sweeps.declared.checking import refuse as refuse_mistakes
from tskd_tune.sweeps.declared.design import method_of
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.estimating.estimate import Estimate
from tskd_tune.sweeps.machines.machine import refuse_here
from tskd_tune.sweeps.space.teacher_seeds import teachers_of
from tskd_tune.tasks.summary import DataSummary

TWINS = (
    "these arms train the same experiment, apart from device and speed, so with the same seed their results differ at"
    " most by rounding; keep one of them"
)


@dataclass(frozen=True)
class Checked:
    """The result of checking a valid sweep or experiment.

    Attributes:
        kind: whether a sweep or an experiment was checked.
        points: the number of configurations that are trained.
        seeds: the seeds of each configuration.
        arms: the experiments by label: all of a grid, or the corners of a search space.
        cost: what the run will cost on this machine.
        method: the search, the scheduler and what ends the sweep early; empty for an experiment.
        teachers: the seeds of the teachers under which the arms are trained; empty without ``teacher.seeds``.
        left_out: one sentence per control that adds no arm.
        data: how the data of each task is interpreted.
        oddities: one sentence per unusual finding in the data; None if the data was not read.
    """

    kind: Literal["sweep", "experiment"]
    points: int
    seeds: list[int]
    arms: dict[str, Experiment]
    cost: Estimate
    left_out: Sequence[str]
    data: Sequence[DataSummary]
    oddities: Sequence[str] | None
    method: str = ""
    teachers: Sequence[int] = ()

    def warnings(self) -> dict[str, list[str]]:
        """Return every warning once, with the labels of its arms."""
        warnings: dict[str, list[str]] = {}
        same: dict[str, list[str]] = {}
        for arm, experiment in self.arms.items():
            same.setdefault(identity(experiment), []).append(arm)
            for sentence in experiment.warnings():
                warnings.setdefault(sentence, []).append(arm)
        twins = [arms for arms in same.values() if len(arms) > 1 and self.points == len(self.arms)]
        return warnings | ({TWINS: [" = ".join(arms) for arms in twins]} if twins else {})


def check_experiment(experiment: Experiment, *, data: bool = False) -> Checked:
    """Check an experiment, read the data if ``data`` is true, and estimate the cost.

    Raises:
        InputError: with one sentence per mistake.
    """
    single.check(experiment)
    refuse(Place())
    return Checked(
        kind="experiment",
        points=1,
        seeds=[experiment.seed],
        arms={single.label(experiment): experiment},
        cost=estimate.of_experiment(experiment),
        left_out=[],
        data=summaries([experiment]),
        oddities=verify_data([experiment]) if data else None,
    )


def check_sweep(sweep: Sweep, *, data: bool = False) -> Checked:
    """Check every arm of a sweep, read the data if ``data`` is true, and estimate the cost.

    Raises:
        InputError: with one sentence per mistake.
    """
    refuse_mistakes(sweep)
    refuse(Place(**sweep.wandb.plain()))
    refuse_here(sweep)
    points, count = estimate.candidates(sweep)
    shown = sweep.space().grid() if sweep.is_exact else points
    arms = {point.label: sweep.experiment_at(point) for point in shown}
    return Checked(
        kind="sweep",
        points=count,
        seeds=sweep.all_seeds(),
        arms=arms,
        cost=estimate.of_sweep(sweep),
        left_out=sweep.derived.left_out,
        data=summaries(arms.values()),
        oddities=verify_data(arms.values()) if data else None,
        method=method_of(sweep),
        teachers=teachers_of(points),
    )
