"""Frozen records of the results of a run's configurations."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import PlanRecord, Row
from tskd_tune.reports.findings.several_teachers import by_seed
from tskd_tune.reports.judge.robust import Estimate
from tskd_tune.reports.judge.statistics import Arm


@dataclass(frozen=True)
class Statistic:
    """The mean of ``n`` known values, of ``of`` expected values.

    ``sd`` is the sample standard deviation (n - 1). ``mean`` and ``sd`` are None where there are too few values.
    """

    n: int
    of: int
    mean: float | None
    sd: float | None

    @classmethod
    def over(cls, values: Iterable[float | None], of: int | None = None) -> Statistic:
        """Summarize the known values; by default ``of`` is the number of known values."""
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
    """The task and the student, as in the experiment. Only arms with equal settings are compared."""

    task: Json
    student: Json


@dataclass(frozen=True)
class StoppedAt:
    """The largest number of epochs that the stopped seeds of an arm trained, and the mean of the headline there."""

    epochs: int
    mean: float | None


@dataclass(frozen=True)
class ArmFindings:
    """One arm: one configuration, and the results of its seeds.

    Attributes:
        arm: the label, followed by the trial where several configurations share a label.
        run: the first trial; ``runs`` has all trials of the arm.
        point: search parameter -> sampled value.
        seeds: the seeds that have a row.
        headline: the headline over the seeds that are done.
        metrics: every metric of the last epoch, by its name in rows, over the seeds that are done.
        best_validation: the best value of the headline's metric on the validation set.
        validation_selected: the headline's metric on the test set, at the best validation epoch.
        best_test: the headline's metric at the best test epoch; this epoch was chosen on the test set.
        reviews: the number of review epochs, up to the last epoch that was trained.
        epochs: the epochs trained per seed, of ``epochs_planned``.
        lambda_: the loss weight of the review.
        cost_seconds: the mean wall time per seed.
        cost_ratio: ``cost_seconds`` divided by the ``cost_seconds`` of the baseline (see `Baseline`).
        reviewed: whether the arm has a review.
        failed: the number of seeds that failed; ``broke`` of these seeds ended with an error.
        statistics: the headline's interval, or a note on why there is none.
        beyond: whether the interval goes beyond the scale of the metric.
        rows: the rows of the arm.
        interquartile_mean: the headline's, with its bootstrap interval.
        collapsed: the seeds whose runs collapsed (`tskd_tune.reports.findings.collapses`).
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
    interquartile_mean: Estimate | None = None
    collapsed: tuple[int, ...] = ()

    @property
    def experiment(self) -> Mapping[str, Json]:
        """The resolved experiment; all rows have the same experiment with different seeds."""
        return self.rows[0].experiment

    @property
    def review(self) -> Mapping[str, Json]:
        """The options of the review; empty without one."""
        return part(self.experiment, "review")

    def metric(self, name: str) -> Statistic:
        """Return a metric of the last epoch; `NOTHING` where the metric was not measured."""
        return self.metrics.get(name, NOTHING)


@dataclass(frozen=True)
class Baseline:
    """The arm by whose time the cost ratios of one task and student are divided, and why this arm was chosen."""

    arm: str
    why: str


@dataclass(frozen=True)
class Method:
    """A distiller that was trained, and the paper or code that the distiller follows."""

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
    """A warning, and the arms with this warning."""

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


def values_by_seed(rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Return seed -> the last epoch's value of a metric, for the rows that are done and have a finite value.

    Under several teachers it is the mean over the teachers, for the seeds that have a value under each of them.
    """
    return by_seed(rows, lambda row: row.metrics.get(metric))
