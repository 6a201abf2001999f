"""The tables of the study of the overhead: predictions beside measurements, for steps, whole trainings and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tskd_tune.errors import InputError
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.studies.found import Cell, Table
from tskd_tune.studies.overhead.arms import Arm, reviewing
from tskd_tune.studies.overhead.model import Pieces, by_passes, off, whole_run
from tskd_tune.studies.overhead.timing import METHODS, PLAIN, TimingJob, Timings
from tskd_tune.studies.overhead.work import Work

MIB = 2**20
GIGA = 1e9
MEASURED, PREDICTED, BY_OPERATIONS = "measured", "predicted from its pieces", "if seconds followed operations"


@dataclass(frozen=True)
class Plans:
    """The trainings whose whole cost is given: each k with each delta and each width, all of one length."""

    ks: Sequence[int]
    deltas: Sequence[int]
    widths: Sequence[int]
    epochs: int

    def reviews(self, k: int, delta: int) -> int:
        """Return how many epochs review, by the default plan."""
        return len(ReviewPlan(self.epochs, k, delta).review_epochs)

    def refuse_impossible(self) -> None:
        """Refuse a training that is too short for a review.

        Raises:
            InputError: with the k, the delta and the first review of the plan.
        """
        for k in self.ks:
            for delta in self.deltas:
                try:
                    self.reviews(k, delta)
                except InputError as error:
                    raise InputError(f"epochs: with k {k} and delta {delta} nothing reviews ({error})") from error


@dataclass(frozen=True)
class Setting:
    """A review of some k and width: what its step costs, in multiples of a plain step.

    Attributes:
        arm: the review.
        rounds: the measured multiple of each round.
        predicted: the multiple that the measured pieces give.
        operations: the multiple of the counted operations.
        predicted_operations: the multiple of the operations that forward passes give.
    """

    arm: Arm
    rounds: Sequence[float]
    predicted: float
    operations: float
    predicted_operations: float

    @property
    def measured(self) -> float:
        """The median over the rounds."""
        return median(self.rounds)

    @property
    def off(self) -> float:
        """By which part the predicted overhead (all beyond a plain step) is too large."""
        return off(self.predicted - 1, self.measured - 1)

    @property
    def off_by_operations(self) -> float:
        """The same, if the overhead in seconds were that in operations."""
        return off(self.operations - 1, self.measured - 1)


def setting_of(arm: Arm, job: TimingJob, timings: Timings, works: Mapping[str, Work]) -> Setting:
    """Return what a step of a reviewing arm costs; ``works``: the name of each arm -> its work."""
    plain = works[PLAIN]
    return Setting(
        arm,
        timings.ratios(arm.name),
        timings.pieces(arm.width).review_step(arm.k),
        works[arm.name].flops / plain.flops,
        operations_of(job, works, arm.width).review_step(arm.k) / plain.flops,
    )


def operations_of(job: TimingJob, works: Mapping[str, Work], width: int) -> Pieces:
    """Return the operations of the pieces, from those of forward passes at the two measured k."""
    at = {k: works[reviewing(k, width).name] for k in sorted(job.measured_ks)}
    one = at[max(at)]
    return by_passes(
        one.student_flops, one.teacher_flops, one.snapshot_flops, {k: work.review_flops for k, work in at.items()}
    )


def bytes_of(job: TimingJob, works: Mapping[str, Work], width: int) -> Pieces:
    """Return the bytes of the pieces on the device, counted at the two measured k."""
    at = {k: works[reviewing(k, width).name] for k in sorted(job.measured_ks)}
    one = at[max(at)]
    own = {k: float(work.review_bytes) for k, work in at.items()}
    return Pieces(one.step_bytes, one.teacher_bytes, one.snapshot_bytes, own)


# Tables


def agreement_table(settings: Sequence[Setting]) -> Table:
    """Return measured and predicted overheads of a review step, in plain steps."""
    columns = (
        "k",
        "width",
        MEASURED,
        "lowest round",
        "highest round",
        PREDICTED,
        "off by %",
        BY_OPERATIONS,
        "operations off by %",
    )
    rows = [
        (
            one.arm.k,
            one.arm.width,
            one.measured - 1,
            min(one.rounds) - 1,
            max(one.rounds) - 1,
            one.predicted - 1,
            100 * one.off,
            one.operations - 1,
            100 * one.off_by_operations,
        )
        for one in settings
    ]
    return Table(columns, tuple(rows))


def whole_runs_table(settings: Sequence[Setting], plans: Plans) -> Table:
    """Return the cost of whole trainings as multiples of plain training, for each k, delta and width."""
    columns = ("k", "delta", "width", "reviewing epochs", MEASURED, PREDICTED, "operations")
    rows: list[tuple[Cell, ...]] = []
    for one in settings:
        for delta in plans.deltas:
            reviews = plans.reviews(one.arm.k, delta)
            ratios = one.measured, one.predicted, one.operations
            costs = [whole_run(ratio, reviews, plans.epochs) for ratio in ratios]
            rows.append((one.arm.k, delta, one.arm.width, reviews, *costs))
    return Table(columns, tuple(rows))


def methods_table(timings: Timings, works: Mapping[str, Work]) -> Table:
    """Return the cost of a step of plain training and of the other methods."""
    columns = ("method", "ms a step", "multiple of a plain step", "lowest round", "highest round", "operations")
    rows = []
    for arm in METHODS:
        ratios = timings.ratios(arm.name)
        seconds, operations = median(timings.steps[arm.name]), works[arm.name].flops / works[PLAIN].flops
        rows.append((arm.name, 1000 * seconds, median(ratios), min(ratios), max(ratios), operations))
    return Table(columns, tuple(rows))


def operations_table(job: TimingJob, works: Mapping[str, Work]) -> Table:
    """Return the operations of a step of each arm, counted and predicted."""
    columns = ("arm", "GFLOP counted", "GFLOP predicted", "off by %")
    rows: list[tuple[Cell, ...]] = [(arm.name, works[arm.name].flops / GIGA, None, None) for arm in METHODS]
    for arm in _reviews(job):
        counted, predicted = works[arm.name].flops, operations_of(job, works, arm.width).review_step(arm.k)
        rows.append((arm.name, counted / GIGA, predicted / GIGA, 100 * off(predicted, counted)))
    return Table(columns, tuple(rows))


def bytes_table(job: TimingJob, works: Mapping[str, Work]) -> Table:
    """Return the bytes of each arm on the device and on disk, measured and predicted."""
    columns = (
        "arm",
        "MiB on the device",
        "predicted",
        "off by %",
        "MiB of a checkpoint",
        "estimated by check",
        "estimate off by %",
    )
    rows: list[tuple[Cell, ...]] = []
    for arm in (*METHODS, *_reviews(job)):
        work = works[arm.name]
        held = bytes_of(job, works, arm.width).review_step(arm.k) if arm.k else None
        device = (None, None) if held is None else (held / MIB, 100 * off(held, work.device_bytes))
        counted, written = work.checkpoint_counted, work.checkpoint_bytes
        disk = (written / MIB, counted / MIB, 100 * off(counted, written))
        rows.append((arm.name, work.device_bytes / MIB, *device, *disk))
    return Table(columns, tuple(rows))


def _reviews(job: TimingJob) -> list[Arm]:
    return [reviewing(k, width) for width in job.widths for k in job.ks]
