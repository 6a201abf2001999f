"""A row: the frozen record of one finished training, written as one line of JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer

from tskd_tune.metrics import Measured, Metric, Part, measured
from tskd_tune.options import Strict
from tskd_tune.plain import Document
from tskd_tune.records.entries.names import FileName
from tskd_tune.records.entries.provenance import commit, versions

ROW_FORMAT: Final = 2
# The device of a training that left no record of the device.
UNKNOWN: Final = "not known"
BEST_TEST_MARK: Final = "chosen on the test set: only for comparison with papers that do so"

Status = Literal["done", "failed", "stopped"]


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _metric(value: object) -> object:
    if not isinstance(value, dict):
        return value
    try:
        return Metric(**value)
    except TypeError as error:
        raise ValueError(f"is not a metric: {error}") from error


Finite = Annotated[float | None, AfterValidator(_finite_or_none)]
"""A number; null where it was not finite."""

Declared = Annotated[Metric, BeforeValidator(_metric), PlainSerializer(Metric.plain)]
"""What a task declared of a metric."""


class Record(Strict, BaseModel):  # the second base tells ruff that the fields are Pydantic's
    """A frozen, strict group of facts; a trailing underscore is dropped in JSON."""

    def plain(self) -> Document:
        """Return the facts as plain data, with the names of the JSON."""
        return self.model_dump(mode="json")


class PlanRecord(Record):
    """Which epochs memorized and which reviewed, as planned; both empty without a review."""

    memorize: list[int] = []
    review: list[int] = []


class Best(Record):
    """The epoch with the best value of a metric on a part (the validation or the test set).

    Attributes:
        metric: the metric's name, without the part.
        value: in the metric's unit.
        also: other values measured at this epoch, by name in rows: the metric on the other part.
        marked: the warning for an epoch that was chosen on the test set; None for other parts.
    """

    epoch: int
    part: Part
    metric: str
    value: float
    also: dict[str, float] = {}
    marked: Literal["chosen on the test set: only for comparison with papers that do so"] | None = None

    @classmethod
    def of(cls, epoch: int, part: Part, metric: str, value: float, also: dict[str, float] | None = None) -> Best:
        """Make the record, with a warning if the part is the test set."""
        facts = {"epoch": epoch, "part": part, "metric": metric, "value": value, "also": also or {}}
        return cls.model_validate({**facts, "marked": BEST_TEST_MARK if part == "test" else None})


class DataRecord(Record):
    """The data of a run.

    Attributes:
        inputs: the shape of one input, ``[channels, height, width]`` for images; None for a length that varies.
        outputs: the number of outputs; for a classification the number of classes.
        samples: the number of training, validation and test samples.
        fingerprint: a digest of the data, the split and the augmentation; empty in older rows.
    """

    inputs: list[int | None]
    outputs: int
    samples: list[int]
    fingerprint: str = ""


class Cost(Record):
    """What a training cost.

    Attributes:
        seconds: wall seconds of the training's own steps and evaluations. Where trainings share a process, the steps
            of the others are left out; on a GPU, which works for all of them at once, a share is not exact.
        train_seconds: the seconds of the steps alone.
        peak_memory_bytes: the peak GPU memory of the process; None on a CPU.
        device: the name of the device.
        threads: the number of CPU threads.
        together: the largest number of trainings that shared the process, its device and its memory in an epoch.
        workers: the largest number of processes that shared each batch, with as many GPUs on a machine that has them;
            seconds and memory are those of the first.
        host: the host name of the machine that ended the training; empty if unknown, as in older rows.
        gpu_share: the share of a GPU that the process asked for (``resources.gpu``); below 1, other processes may have
            used the same GPU. 1 on a CPU, and in older rows.
    """

    seconds: float
    train_seconds: float
    peak_memory_bytes: int | None = None
    device: str
    threads: int
    together: int = 1
    workers: int = 1
    host: str = ""
    gpu_share: float = 1.0


class EngineRecord(Record):
    """What carried out the steps: ``eager`` or ``graphs``, and why, in words."""

    name: str
    reason: str


class TeacherRecord(Record):
    """The teacher of a run.

    Attributes:
        source: ``auto`` (trained here, under the cache key) or the origin of the weights.
        metrics: the teacher's metrics before the student was trained, by name in rows.
    """

    name: str
    source: str
    key: str | None = None
    parameters: int | None = None
    metrics: dict[str, Finite] = {}


class Row(Record):
    """One finished run: one seed of one configuration.

    Attributes:
        run: the id of the trial that trained the run.
        identity: the digest of the experiment without its seed, which names the training together with the seed; empty
            in rows of the first format.
        arm: the label of the configuration.
        point: search parameter -> sampled value.
        reason: why the run failed or was stopped; None for a completed run.
        broke: whether the run failed because the training broke; then a resume trains again. A divergence is a result
            and is not trained again.
        cut: whether the run was stopped because the sweep's budget was used up; then a resume trains it on.
        error: the file with the whole error of a training that broke, relative to the run's folder.
        epochs: epochs trained, of ``epochs_planned``.
        metrics: the metrics of the last epoch, by names such as ``test_loss``; null for a number that was not finite.
        measures: the meaning of the task's metrics, the headline first; empty if the training broke before the task
            declared metrics.
        best: the best epoch of the headline on the validation set, and on the test set if the test set was
            evaluated at every epoch.
        lambda_: the loss weight of the review; None without a review.
        deviations: the differences from ``preset``, one sentence per difference.
        engine: what carried out the steps; None in rows of versions without graphs, and if the training broke before.
        protocol: the digest of the lines of the run's frozen protocol when the training ended; empty without a
            protocol, and in older rows.
        code: the digest of the code of each component in the user's own files, by its name without the folder; empty
            without such components, and in older rows.
        started: ISO 8601; ``finished`` too.
        experiment: the resolved experiment as plain data.
    """

    format: Literal[2] = ROW_FORMAT
    run: FileName
    identity: FileName = ""
    arm: str
    point: Document = Field(default_factory=dict)
    seed: int
    status: Status
    reason: str | None = None
    broke: bool = False
    cut: bool = False
    error: str | None = None
    epochs: int
    epochs_planned: int
    plan: PlanRecord = PlanRecord()
    metrics: dict[str, Finite] = {}
    measures: list[Declared] = []
    best: list[Best] = []
    lambda_: Finite = None
    cost: Cost
    engine: EngineRecord | None = None
    teacher: TeacherRecord | None = None
    data: DataRecord | None = None
    preset: str
    deviations: list[str] = []
    warnings: list[str] = []
    versions: dict[str, str] = Field(default_factory=versions)
    commit: str | None = Field(default_factory=commit)
    protocol: str = ""
    code: dict[str, str] = {}
    started: str
    finished: str
    experiment: Document

    @property
    def key(self) -> tuple[str, int]:
        """The trial and the seed; runs are listed in this order."""
        return self.run, self.seed

    @property
    def ended(self) -> bool:
        """Whether the training has ended: it was completed, was stopped or diverged. Otherwise a resume trains it."""
        return not self.broke and not self.cut

    @property
    def headline(self) -> Metric | None:
        """The first metric of the task; None if the training broke before the task declared metrics."""
        return self.measures[0] if self.measures else None

    def value(self, name: str) -> float | None:
        """Return a metric of the last epoch by name, such as ``test_loss``; None if the metric was not measured."""
        return self.metrics.get(name)

    def best_by(self, part: Part, metric: str | None = None) -> Best | None:
        """Return the best epoch on a part by a metric (default: the headline); None if the metric was not measured."""
        found = (best for best in self.best if best.part == part and metric in (None, best.metric))
        return next(found, None)


def latest(rows: Iterable[Row]) -> list[Row]:
    """Return the last row of each training, in the order of the trainings' first rows.

    Rows belong to the same training if they have the same trial and seed, or the same identity, arm and seed.
    """
    places: dict[tuple[str, ...], int] = {}
    found: list[Row] = []
    for row in rows:
        names = [("trial", row.run, str(row.seed))]
        if row.identity:
            names.append((row.identity, row.arm, str(row.seed)))
        place = next((places[name] for name in names if name in places), len(found))
        found[place : place + 1] = [row]
        places |= dict.fromkeys(names, place)
    return found


def last_metrics(line: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the part of a history line that a row keeps: the training loss and all metrics on a part."""
    return {name: value for name, value in line.items() if name == "loss" or Measured.read(name) is not None}


def declared(rows: Iterable[Row]) -> list[Metric]:
    """Return the metrics that rows declare, without repetition, in the order of the rows."""
    return list({metric.name: metric for row in rows for metric in row.measures}.values())


def other_part(part: Part, metric: str) -> str:
    """Return the name of a metric on the other part: the test set for the validation set, and the reverse."""
    return measured("test" if part == "validation" else "validation", metric)
