"""A row: the account of one finished training, as a frozen record that becomes one line of JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from tskd_tune.metrics import Measured, Metric, Part, measured
from tskd_tune.plain import Document
from tskd_tune.records.provenance import commit, versions

ROW_FORMAT: Final = 2
# The device of a training that left no account.
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


class Record(BaseModel):
    """A frozen, strict group of facts; a trailing underscore is dropped in JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        alias_generator=lambda name: name.removesuffix("_"),
    )

    def plain(self) -> Document:
        """Return the facts as plain data, with the names of the JSON."""
        return self.model_dump(mode="json")


class PlanRecord(Record):
    """Which epochs memorized and which reviewed, as planned; both empty without a review."""

    memorize: list[int] = []
    review: list[int] = []


class Best(Record):
    """The epoch at which a metric of a part was best.

    Attributes:
        metric: the metric's name, without the part.
        value: in the metric's unit.
        also: what else was measured at this epoch, by its name in rows: the metric on the other part.
        marked: a warning that stands wherever an epoch was chosen on the test set; None for other parts.
    """

    epoch: int
    part: Part
    metric: str
    value: float
    also: dict[str, float] = {}
    marked: Literal["chosen on the test set: only for comparison with papers that do so"] | None = None

    @classmethod
    def of(cls, epoch: int, part: Part, metric: str, value: float, also: dict[str, float] | None = None) -> Best:
        """Make the record, with its mark where the part is the test set."""
        facts = {"epoch": epoch, "part": part, "metric": metric, "value": value, "also": also or {}}
        return cls.model_validate({**facts, "marked": BEST_TEST_MARK if part == "test" else None})


class DataRecord(Record):
    """The data of a run.

    Attributes:
        inputs: the shape of one input, ``[channels, height, width]`` for images; None where a length varies.
        outputs: the number of outputs: the classes, for a classification.
        samples: the number of training, validation and test samples.
    """

    inputs: list[int | None]
    outputs: int
    samples: list[int]


class Cost(Record):
    """What a training cost: wall seconds in all and in training steps, bytes at the peak, where it ran."""

    seconds: float
    train_seconds: float
    peak_memory_bytes: int | None = None
    device: str
    threads: int


class TeacherRecord(Record):
    """The teacher of a run.

    Attributes:
        source: ``auto`` (trained here, under the cache key) or where its weights came from.
        metrics: what was measured of the teacher before the student was trained, by its name in rows.
    """

    name: str
    source: str
    key: str | None = None
    parameters: int | None = None
    metrics: dict[str, Finite] = {}


class Row(Record):
    """One finished run: one seed of one configuration.

    Attributes:
        run: the trial's id: when and with which others it was trained.
        identity: the digest of the experiment without its seed, which names the training together with the seed; empty
            in rows of the first format.
        arm: the label of the configuration.
        point: search parameter -> sampled value.
        reason: why the run failed or was stopped; None for a run that is done.
        broke: whether the run failed because it broke, so that a resume trains it again; a divergence is a result and
            stays.
        error: the file with the whole error of a training that broke, relative to the run's folder.
        epochs: epochs trained, of ``epochs_planned``.
        metrics: what was measured at the last epoch, by names such as ``test_loss``; null where a number was not
            finite.
        measures: what the metrics of the task mean, the headline first; empty where a training broke before its task
            could tell.
        best: the best epoch of the headline on the validation set, and on the test set where the test set was
            evaluated at every epoch.
        lambda_: the weight of the review; None without a review.
        deviations: what differs from ``preset``, a sentence each.
        started: ISO 8601, as is ``finished``.
        experiment: the resolved experiment as plain data.
    """

    format: Literal[2] = ROW_FORMAT
    run: str
    identity: str = ""
    arm: str
    point: Document = Field(default_factory=dict)
    seed: int
    status: Status
    reason: str | None = None
    broke: bool = False
    error: str | None = None
    epochs: int
    epochs_planned: int
    plan: PlanRecord = PlanRecord()
    metrics: dict[str, Finite] = {}
    measures: list[Declared] = []
    best: list[Best] = []
    lambda_: Finite = None
    cost: Cost
    teacher: TeacherRecord | None = None
    data: DataRecord | None = None
    preset: str
    deviations: list[str] = []
    warnings: list[str] = []
    versions: dict[str, str] = Field(default_factory=versions)
    commit: str | None = Field(default_factory=commit)
    started: str
    finished: str
    experiment: Document

    @property
    def key(self) -> tuple[str, int]:
        """The trial and the seed: the order in which runs are listed."""
        return self.run, self.seed

    @property
    def ended(self) -> bool:
        """Whether its training has ended: it is done, was stopped or diverged, and did not break."""
        return not self.broke

    @property
    def headline(self) -> Metric | None:
        """The first metric of the task; None where the training broke before its task could tell."""
        return self.measures[0] if self.measures else None

    def value(self, name: str) -> float | None:
        """Return a metric of the last epoch by its name, such as ``test_loss``; None where it was not measured."""
        return self.metrics.get(name)

    def best_by(self, part: Part, metric: str | None = None) -> Best | None:
        """Return the best epoch by a part and a metric (by default the headline); None where none was measured."""
        found = (best for best in self.best if best.part == part and metric in (None, best.metric))
        return next(found, None)


def latest(rows: Iterable[Row]) -> list[Row]:
    """Return the last row of each training, in the order in which the trainings have their first rows.

    Rows are of the same training where they have the same trial and seed, or the same identity, arm and seed.
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
    """Return what of a history line a row keeps: the training loss and all that was measured on a part."""
    return {name: value for name, value in line.items() if name == "loss" or Measured.read(name) is not None}


def declared(rows: Iterable[Row]) -> list[Metric]:
    """Return the metrics that rows declare, each once, in the order of the rows."""
    return list({metric.name: metric for row in rows for metric in row.measures}.values())


def other_part(part: Part, metric: str) -> str:
    """Return the name in rows of a metric on the part that is not ``part``."""
    return measured("test" if part == "validation" else "validation", metric)
