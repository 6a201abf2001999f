"""What the trained configurations of a run show, as frozen records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.plain import Json
from tskd_tune.records.row import PlanRecord, Row
from tskd_tune.reports.judge.statistics import Arm


@dataclass(frozen=True)
class Statistic:
    """The mean of ``n`` known values, of the ``of`` values that there are to be.

    ``sd`` is the sample standard deviation (n - 1). ``mean`` and ``sd`` are None where there are too few values.
    """

    n: int
    of: int
    mean: float | None
    sd: float | None

    @classmethod
    def over(cls, values: Iterable[float | None], of: int | None = None) -> Statistic:
        """Summarize the values that are known; ``of`` is by default their number."""
        known = [value for value in values if value is not None]
        return cls(
            n=len(known),
            of=len(known) if of is None else max(of, len(known)),
            mean=statistics.fmean(known) if known else None,
            sd=statistics.stdev(known) if len(known) > 1 else None,
        )


NOTHING = Statistic.over([])


@dataclass(frozen=True)
class Setting:
    """The task and the student, as in the experiment: only arms with equal settings are compared."""

    task: Json
    student: Json


@dataclass(frozen=True)
class StoppedAt:
    """How many epochs the stopped seeds of an arm trained at most, and the mean of the headline there."""

    epochs: int
    mean: float | None


@dataclass(frozen=True)
class ArmFindings:
    """One arm: one configuration, and what its seeds show.

    Attributes:
        arm: the label; where several configurations share a label, with the trial.
        run: the first trial, of all its trials in ``runs``.
        point: search parameter -> sampled value.
        seeds: the seeds that have a row.
        headline: the headline over the seeds that are done.
        metrics: every metric of the last epoch, by its name in rows, over the seeds that are done.
        best_validation: the best value of the headline's metric on the validation part.
        validation_selected: the headline's metric on the test part, at the best validation epoch.
        best_test: the best value on the test part, which was chosen on the test part.
        reviews: the epochs that reviewed, up to the last epoch that was trained.
        epochs: the epochs trained of each seed, of ``epochs_planned``.
        lambda_: the weight of the review.
        cost_seconds: the mean wall time of a seed.
        cost_ratio: the same over that of the baseline (see `Baseline`).
        reviewed: whether the arm has a review.
        failed: seeds that failed, of which ``broke`` seeds broke.
        statistics: the headline's interval, or a note on why there is none.
        beyond: whether the interval leaves the scale of the metric.
        rows: the rows of the arm.
    """

    arm: str
    run: str
    runs: tuple[str, ...]
    point: Mapping[str, Json]
    seeds: tuple[int, ...]
    headline: Statistic
    metrics: Mapping[str, Statistic]
    best_validation: Statistic
    validation_selected: Statistic
    best_test: Statistic
    reviews: int
    plan: PlanRecord
    epochs: tuple[int, ...]
    epochs_planned: int
    lambda_: Statistic
    cost_seconds: float | None
    cost_ratio: float | None
    peak_memory_bytes: int | None
    reviewed: bool
    setting: Setting
    preset: str
    deviations: tuple[str, ...]
    failed: int
    broke: int
    stopped: int
    stopped_at: StoppedAt | None
    statistics: Arm
    beyond: bool
    rows: Sequence[Row]

    @property
    def experiment(self) -> Mapping[str, Json]:
        """The resolved experiment, the same for all rows but for the seed."""
        return self.rows[0].experiment

    @property
    def review(self) -> Mapping[str, Json]:
        """The options of the review; empty without one."""
        return part(self.experiment, "review")

    def metric(self, name: str) -> Statistic:
        """Return a metric of the last epoch; `NOTHING` where it was not measured."""
        return self.metrics.get(name, NOTHING)


@dataclass(frozen=True)
class Baseline:
    """The arm whose time the cost ratios of one task and student are relative to, and why it was chosen."""

    arm: str
    why: str


@dataclass(frozen=True)
class Method:
    """A distiller that was trained, and the paper or code that it follows."""

    name: str
    source: str


@dataclass(frozen=True)
class Deviations:
    """The arms that share a preset and deviate from it in the same way."""

    preset: str
    deviations: tuple[str, ...]
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Warned:
    """A warning, and the arms that it concerns."""

    sentence: str
    arms: tuple[str, ...]


def part(experiment: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    """Return a mapping of a resolved experiment, such as ``task``; empty where the experiment has none."""
    found = experiment.get(name)
    return found if isinstance(found, Mapping) else {}


def name_of(experiment: Mapping[str, Json], name: str) -> str | None:
    """Return the name of a component of a resolved experiment, such as the ``student``; None without one."""
    found = part(experiment, name).get("name")
    return found if isinstance(found, str) else None


def values_by_seed(rows: Iterable[Row], metric: str) -> dict[int, float]:
    """Return seed -> the last epoch's value of a metric, of the rows that are done and have a finite value."""
    return {row.seed: value for row in rows if row.status == "done" and (value := row.metrics.get(metric)) is not None}
