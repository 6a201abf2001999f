"""What an Optuna study is asked, and what it is told: the values of a point, and how a trial ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tskd_tune.sweeps.space.domains import Hole, Pick, Picked

if TYPE_CHECKING:
    from optuna.trial import Trial


def drawing_from(trial: Trial) -> Pick:
    """Return a function that asks a trial of Optuna for the value of each search parameter."""

    def pick(hole: Hole) -> Picked:
        if not hole.is_range:
            return trial.suggest_categorical(hole.name, hole.labels)
        if hole.kind == "int":
            numbers = hole.numbers()
            return trial.suggest_int(hole.name, numbers[0], numbers[-1], step=hole.step)
        return trial.suggest_float(hole.name, hole.low, hole.high, log=hole.kind == "loguniform")

    return pick


def failure_of(result: Mapping[str, object], error: bool, values: Mapping[str, float | None]) -> str | None:
    """Return why a trial failed; None if it ended with a finite value of each objective."""
    if result.get("failed"):
        return str(result["failed"])
    if error:
        return "the trial ended with an error"
    missing = [name for name, value in values.items() if value is None]
    return f"the last result has no finite '{missing[0]}'" if missing else None


def has_diverged(result: Mapping[str, object], values: Mapping[str, float | None]) -> bool:
    """Return whether a trial diverged: its numbers are not finite. A trial that broke or has no numbers did not."""
    if result.get("broke"):
        return False
    return bool(result.get("failed")) or any(value is None and name in result for name, value in values.items())
