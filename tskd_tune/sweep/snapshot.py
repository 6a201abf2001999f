"""Ray Tune's own list of a sweep's trials, read without Ray: what a trial is to train and whether it runs.

Tune writes the list every ten seconds or so. It is a hint for runs of older versions, and on what waits: a list that is
missing, torn or of another form says nothing, and the run's own records stand above it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Listed:
    """One trial of Tune's list.

    Attributes:
        run: its name, that of its folder.
        arm: the label of its point.
        point: hole -> sampled value.
        seeds: the seeds that it trains.
        epochs: the epochs of each of them; None where the list does not tell.
        status: ``PENDING``, ``RUNNING``, ``TERMINATED`` or ``ERROR``, as Tune has it.
    """

    run: str
    arm: str
    point: Mapping[str, Any]
    seeds: tuple[int, ...]
    epochs: int | None
    status: str


def listed(folder: Path) -> dict[str, Listed]:
    """Return the trials of the newest list in Tune's folder, by their names; none where no list can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = [_listed(state["config"], str(state["status"])) for state in newest(folder) or ()]
        return {trial.run: trial for trial in found}
    return {}


def newest(folder: Path) -> list[dict[str, Any]] | None:
    """Return Tune's trials as they stand in its newest list, or None where it has written none.

    Raises:
        OSError, ValueError, KeyError, TypeError: the list cannot be read.
    """
    path = max(folder.glob("experiment_state-*.json"), default=None)
    if path is None:
        return None
    return [json.loads(state) for state, _ in json.loads(path.read_text(encoding="utf-8"))["trial_data"]]


def _listed(config: Mapping[str, Any], status: str) -> Listed:
    epochs = (config["experiment"].get("training") or {}).get("epochs")
    seeds = tuple(int(seed) for seed in config["seeds"])
    return Listed(f"{config['number']:05d}", str(config["arm"]), config.get("point") or {}, seeds, epochs, status)
