"""Rows for tests, by default of a whole run of four epochs on one CPU thread, and the error of a trial of Ray Tune."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray import cloudpickle

from tskd_tune.records.lines import json_line
from tskd_tune.records.row import Cost, Row
from tskd_tune.records.run_folder import ROWS, RunFolder

STARTED = "2026-01-01T00:00:00+00:00"
FINISHED = "2026-01-01T00:10:00+00:00"


def a_cost(seconds: float = 1.0, **facts: Any) -> Cost:
    """Return what a training cost, all of its seconds in steps unless ``train_seconds`` says otherwise."""
    return Cost(**({"seconds": seconds, "train_seconds": seconds, "device": "cpu", "threads": 1} | facts))


def a_row(run: str = "t0", seed: int = 1, arm: str = "baseline", *, planned: int = 4, **facts: Any) -> Row:
    """Return the row of a run that is done, with all of its ``planned`` epochs, unless the facts say otherwise."""
    defaults: dict[str, Any] = {
        "status": "done",
        "epochs": planned,
        "epochs_planned": planned,
        "cost": a_cost(),
        "preset": "paper",
        "started": STARTED,
        "finished": FINISHED,
        "experiment": {"review": None},
    }
    return Row(run=run, seed=seed, arm=arm, **(defaults | facts))


def write_rows(folder: RunFolder, rows: Iterable[Row]) -> None:
    """Replace all rows of a run, so that a test can begin with the rows that it needs."""
    folder.store.write(ROWS, "".join(json_line(row.plain()) for row in rows).encode())


def pickled(error: Exception) -> str:
    """Write an error as Ray Tune does: into a folder that is not copied into the run's storage yet."""
    path = Path(tempfile.mkdtemp()) / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))
    return str(path)
