"""How far the teachers of a run are: ``teachers.jsonl`` has a line for each epoch of a teacher.

Teachers are trained before the trials begin. Without these lines a run would show no progress until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError, model_validator

from tskd_tune.metrics import Measured
from tskd_tune.plain import Document, Json
from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.sittings import stamp
from tskd_tune.records.store import Store

if TYPE_CHECKING:  # events load torch, and whoever only reads a run needs none
    from tskd_tune.records.events import Event, Listener

FILE: Final = "teachers.jsonl"
# The events that concern a teacher, as their lines name them.
CONCERNS: Final[Mapping[str, str]] = {"teacher": "epoch", "waiting": "waiting", "ready": "ready", "broken": "broken"}

State = Literal["waiting", "training", "ready", "broken"]


class Told(BaseModel):
    """A line about a teacher; a file that was damaged or edited can hold anything else.

    Attributes:
        what: what happened: the teacher waits, has trained an epoch, is ready or broke.
        teacher: the teacher's network.
        key: the digest of the teacher's recipe; None where the teacher has none.
        metrics: what was measured, by its name in histories.
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
    def _gather_metrics(cls, line: Document) -> Document:
        """Gather the metrics, which stand beside everything else in a line."""
        return {**line, "metrics": {name: value for name, value in line.items() if Measured.read(name) is not None}}

    @model_validator(mode="after")
    def _check_epoch(self) -> Told:
        if self.what == "epoch" and self.epoch is None:
            raise ValueError("an epoch has no number")
        return self


@dataclass(frozen=True)
class Teaching:
    """How far one teacher is.

    Attributes:
        name: the teacher's network.
        state: ``waiting`` for another run that trains the same teacher, ``training``, ``ready`` or ``broken``.
        epochs: epochs trained, of ``planned``; both 0 for a teacher that was there already.
        left: seconds left at the mean cost of the epochs so far; None where nothing tells.
        metrics: what was measured of the teacher last, by its name in histories.
        reason: why its training broke, in one line.
    """

    name: str
    state: State
    epochs: int
    planned: int
    left: float | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    reason: str | None = None

    def plain(self) -> Document:
        """Return the facts as plain data."""
        return asdict(self)


def noted(store: Store, listener: Listener) -> Listener:
    """Return a listener that writes events about teachers to the run's store before it passes each event on."""

    def hear(event: Event) -> None:
        if event.what in CONCERNS:
            store.append(FILE, json_line(_line(event)))
        listener(event)

    return hear


def lines(store: Store) -> list[Told]:
    """Return the lines of a run's store, in the order in which they were written; damaged ones are left out.

    Raises:
        RunError: the file may not be read.
    """
    return [line for raw in store.lines(FILE) if (line := _told(raw)) is not None]


def _told(raw: bytes) -> Told | None:
    record = parsed_line(raw.decode(errors="replace"))
    try:
        return None if record is None else Told.model_validate(record)
    except ValidationError:
        return None


def teachings(told: Sequence[Told]) -> list[Teaching]:
    """Return how far each teacher is, from the `lines` of a run."""
    teachers: dict[tuple[str, str | None], list[Told]] = {}
    for line in told:
        teachers.setdefault((line.teacher, line.key), []).append(line)
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
