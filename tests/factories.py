"""Rows for tests, by default of a whole run of four epochs on one CPU thread, and the error of a trial of Ray Tune."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayTaskError

from tskd_tune.metrics import Metric
from tskd_tune.paths import StoragePlace
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.replicate import Replicate
from tskd_tune.records.entries.row import Cost, Row
from tskd_tune.records.runs.run_folder import ROWS, RunFolder
from tskd_tune.records.storing.lines import json_line

STARTED = "2026-01-01T00:00:00+00:00"
FINISHED = "2026-01-01T00:10:00+00:00"
TOP1 = Metric("top1", "top-1", "%", "max")
RANDOM = {"name": "random", "metric": "val_top1", "mode": "max"}


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
    """Replace all rows of a run, so that a test can begin with the rows that it needs; each names the protocol."""
    stamped = [row.model_copy(update={"protocol": row.protocol or folder.state.protocol or ""}) for row in rows]
    folder.store.write(ROWS, "".join(json_line(row.plain()) for row in stamped).encode())


def a_search(
    root: StoragePlace,
    values: list[Any],
    search: dict[str, Any] | None = None,
    metric: Metric = TOP1,
    *,
    name: str = "search",
    replicate: Replicate | None = None,
    more: int = 0,
    **document: Any,
) -> RunFolder:
    """Return a search whose trials have these means of two seeds; a text is the status of a trial without a value.

    ``more`` trials are expected and have no row.
    """
    given = {"search": search or RANDOM, "seeds": [1, 2], **document}
    expected, origin = 2 * (len(values) + more), Origin(replicate=replicate)
    folder = RunFolder.create(root, name, "sweep", given, expected=expected, origin=origin)
    rows = []
    for place, value in enumerate(values):
        for seed, away in ((1, -1.0), (2, 1.0)):
            ended = {"status": value, "reason": "no reason"} if isinstance(value, str) else {}
            known = {} if ended else {f"val_{metric.name}": value + away, f"test_{metric.name}": 1.0}
            rows.append(a_row(f"{place:05d}", seed, f"k={place}", metrics=known, measures=[metric], **ended))
    with folder.alone():
        write_rows(folder, rows)
    return folder


def a_group(
    root: StoragePlace, group: str, searches: list[list[Any]], *, declared: int | None = None, **document: Any
) -> list[RunFolder]:
    """Return replicates of a search, with other seeds of the searcher in each.

    ``declared`` were declared at the start, and then as many as there are; None: as in a run of an earlier version.
    """
    later = None if declared is None else len(searches)
    return [
        a_search(
            root,
            values,
            {**RANDOM, "seed": number},
            name=f"{group}-{number}",
            replicate=Replicate(group=group, number=number, declared=declared if number <= (declared or 0) else later),
            **document,
        )
        for number, values in enumerate(searches, start=1)
    ]


def raised(error: Exception) -> Exception:
    """Return an error of a worker's code as Ray Tune hears of it."""
    found: Exception = RayTaskError("step", "a long traceback of Ray's", error).as_instanceof_cause()
    return found


def pickled(error: Exception) -> str:
    """Write an error as Ray Tune does: into a folder that is not copied into the run's storage yet."""
    path = Path(tempfile.mkdtemp()) / "error.pkl"
    path.write_bytes(cloudpickle.dumps(error))
    return str(path)
