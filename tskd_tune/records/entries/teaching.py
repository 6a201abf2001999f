"""The progress of a run's teachers: ``teachers.jsonl`` has one line per epoch of a teacher.

Teachers are trained before the trials start. Without these lines the run would show no progress before the trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError, model_validator

from tskd_tune.metrics import Measured
from tskd_tune.plain import Json
from tskd_tune.records.entries.sittings import stamp
from tskd_tune.records.storing.lines import json_line, parsed_line
from tskd_tune.records.storing.store import Store

if TYPE_CHECKING:  # events load torch, which the reading of a run does not need
    from tskd_tune.records.entries.events import Event, Listener

FILE: Final = "teachers.jsonl"
# Events about teachers -> the word for the event in the lines.
CONCERNS: Final[Mapping[str, str]] = {"teacher": "epoch", "waiting": "waiting", "ready": "ready", "broken": "broken"}

State = Literal["waiting", "training", "ready", "broken"]


class Told(BaseModel):
    """A line about a teacher; any other line of the file is damaged.

    Attributes:
        what: what happened: a run waits for the teacher, an epoch was trained, the teacher is ready, or training broke.
        teacher: the teacher's network.
        key: the digest of the teacher's recipe; None for a teacher without a recipe.
        metrics: the metrics, by name in histories.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    what: Literal["waiting", "epoch", "ready", "broken"]
    teacher: str
    key: str | None
    time: str
    epoch: NonNegativeInt | None = None
    epochs: NonNegativeInt | None = None
    seconds: NonNegativeFloat | None = None
    eval_seconds: NonNegativeFloat | None = None
    metrics: dict[str, float | None] = {}
    reason: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_metrics(cls, line: Mapping[str, object]) -> dict[str, object]:
        """Gather the metrics, which a line has on the same level as all other values."""
        return {**line, "metrics": {name: value for name, value in line.items() if Measured.read(name) is not None}}

    @model_validator(mode="after")
    def _check_epoch(self) -> Told:
        if self.what == "epoch" and self.epoch is None:
            raise ValueError("an epoch has no number")
        return self


@dataclass(frozen=True)
class Teaching:
    """The progress of one teacher.

    Attributes:
        name: the teacher's network.
        state: ``waiting`` for another run that trains the same teacher, ``training``, ``ready`` or ``broken``.
        epochs: epochs trained, of ``planned``; both 0 for a teacher that existed already.
        left: remaining seconds, from the mean time of the epochs so far; None where unknown.
        metrics: the newest metrics of the teacher, by name in histories.
        reason: why the training broke, in one line.
    """

    name: str
    state: State
    epochs: int
    planned: int
    left: float | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    reason: str | None = None

    def plain(self) -> dict[str, object]:
        """Return the facts as plain data."""
        return asdict(self)


def noted(store: Store, listener: Listener) -> Listener:
    """Return a listener that writes events about teachers to the run's store before it passes each event on."""

    def hear(event: Event) -> None:
        if event.what in CONCERNS:
            store.append(FILE, json_line(_line(event)), durable=False)
        listener(event)

    return hear


def lines(store: Store) -> list[Told]:
    """Return the lines of a run's store, in the order of writing; damaged lines are left out.

    Raises:
        RunError: the file cannot be read.
    """
    return [line for raw in store.lines(FILE) if (line := _told(raw)) is not None]


def _told(raw: bytes) -> Told | None:
    record = parsed_line(raw.decode(errors="replace"))
    try:
        return None if record is None else Told.model_validate(record)
    except ValidationError:
        return None


def teachings(told: Sequence[Told]) -> list[Teaching]:
    """Return the progress of each teacher, from the `lines` of a run."""
    teachers: dict[str, list[Told]] = {}
    for line in told:  # a resume may call a teacher by another name, if fewer teachers are left
        teachers.setdefault(line.key or line.teacher, []).append(line)
    return [_teaching(of) for of in teachers.values()]


def _teaching(told: Sequence[Told]) -> Teaching:
    last = told[-1]
    trained = {line.epoch: line for line in told if line.what == "epoch" and line.epoch is not None}
    seconds = [line.seconds + (line.eval_seconds or 0.0) for line in trained.values() if line.seconds]
    epochs, planned = max(trained, default=-1) + 1, last.epochs or 0
    state: State = "training" if last.what == "epoch" else last.what
    return Teaching(
        name=last.teacher,
        state=state,
        epochs=epochs,
        planned=planned,
        left=(planned - epochs) * fmean(seconds) if seconds and state == "training" else None,
        metrics=last.metrics,
        reason=last.reason if state == "broken" else None,
    )


def _line(event: Event) -> dict[str, Json]:
    shown = event.metrics or {}
    clocks = ("seconds", "eval_seconds")
    figures = {name: value for name, value in shown.items() if name in clocks or Measured.read(name) is not None}
    epoch = {"epoch": event.epoch} if event.what == "teacher" else {}
    reason = {"reason": event.reason} if event.what == "broken" else {}
    what = {"what": CONCERNS[event.what], "teacher": event.arm, "key": event.run}
    return {**what, **epoch, "epochs": event.epochs, **figures, **reason, "time": stamp()}
