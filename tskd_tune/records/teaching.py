"""How far the teachers of a run are: a line for each epoch in ``teachers.jsonl``, for whoever looks at the run.

A teacher is trained before the trials begin, so without these lines a run would seem to do nothing for as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, ValidationError

from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.sittings import stamp
from tskd_tune.records.store import Store

if TYPE_CHECKING:  # events load torch, and whoever only reads a run needs none
    from tskd_tune.records.events import Event, Listener

FILE: Final = "teachers.jsonl"
# The events that concern a teacher, as their lines name them.
CONCERNS: Final[Mapping[str, str]] = {"teacher": "epoch", "waiting": "waiting", "ready": "ready", "broken": "broken"}

State = Literal["waiting", "training", "ready", "broken"]


class _Written(BaseModel):
    """What is read of a line; a file that was damaged or edited can hold anything."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    what: Literal["waiting", "epoch", "ready", "broken"]
    teacher: str
    key: str | None
    time: str
    epoch: NonNegativeInt | None = None
    epochs: NonNegativeInt | None = None
    seconds: NonNegativeFloat | None = None
    eval_seconds: NonNegativeFloat | None = None
    test_top1: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Teaching:
    """How far one teacher is.

    Attributes:
        name: the teacher's network.
        state: ``waiting`` for another run that trains the same teacher, ``training``, ``ready`` or ``broken``.
        epochs: epochs trained, of ``planned``; both 0 for a teacher that was there already.
        left: seconds left at the mean cost of the epochs so far; None where nothing tells.
        test_top1: of a ready teacher, in percent, if it was measured.
        reason: why its training broke, in one line.
    """

    name: str
    state: State
    epochs: int
    planned: int
    left: float | None
    test_top1: float | None
    reason: str | None = None

    def plain(self) -> dict[str, Any]:
        """Return the facts as plain data."""
        return asdict(self)


def noted(store: Store, listener: Listener) -> Listener:
    """Return a listener that writes events about teachers to the run's store before it passes each event on."""

    def hear(event: Event) -> None:
        if event.what in CONCERNS:
            store.append(FILE, json_line(_line(event)))
        listener(event)

    return hear


def lines(store: Store) -> list[dict[str, Any]]:
    """Return the lines of a run's store, in the order in which they were written; torn and damaged ones are left out.

    Raises:
        RunError: the file may not be read.
    """
    found = (parsed_line(line.decode(errors="replace")) for line in store.lines(FILE))
    return [line for line in found if line and _is_sound(line)]


def _is_sound(line: Mapping[str, Any]) -> bool:
    try:
        checked = _Written.model_validate(line)
    except ValidationError:
        return False
    return checked.what != "epoch" or checked.epoch is not None


def teachings(told: Sequence[Mapping[str, Any]]) -> list[Teaching]:
    """Return how far each teacher is, from the `lines` of a run."""
    teachers: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    for line in told:
        teachers.setdefault((line["teacher"], line["key"]), []).append(line)
    return [_teaching(of) for of in teachers.values()]


def _teaching(told: Sequence[Mapping[str, Any]]) -> Teaching:
    last = told[-1]
    trained = {line["epoch"]: line for line in told if line["what"] == "epoch"}
    seconds = [line["seconds"] + (line.get("eval_seconds") or 0.0) for line in trained.values() if line.get("seconds")]
    epochs, planned = max(trained, default=-1) + 1, int(last.get("epochs") or 0)
    state: State = "training" if last["what"] == "epoch" else last["what"]
    return Teaching(
        name=last["teacher"],
        state=state,
        epochs=epochs,
        planned=planned,
        left=(planned - epochs) * fmean(seconds) if seconds and state == "training" else None,
        test_top1=last.get("test_top1"),
        reason=last.get("reason") if state == "broken" else None,
    )


def _line(event: Event) -> dict[str, Any]:
    shown = event.metrics or {}
    figures = {name: shown[name] for name in ("seconds", "eval_seconds", "val_top1", "test_top1") if name in shown}
    epoch = {"epoch": event.epoch} if event.what == "teacher" else {}
    reason = {"reason": event.reason} if event.what == "broken" else {}
    what = {"what": CONCERNS[event.what], "teacher": event.arm, "key": event.run}
    return {**what, **epoch, "epochs": event.epochs, **figures, **reason, "time": stamp()}
