"""The whole protocol through real Ray Tune, on tiny experiments: search, confirmation with controls, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps import run
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.confirmation import confirmation

pytestmark = pytest.mark.slow

FRESH = [11, 12, 13, 14, 15]


def silent(event: Event) -> None:
    pass


def test_a_search_is_confirmed_on_fresh_seeds_and_judged(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    task = {**tiny_document["task"], "train": 8, "validation": 4, "test": 8}
    experiment = {**tiny_document, "task": task, "training": {**tiny_document["training"], "epochs": 3}}
    experiment |= {"review": {**tiny_document["review"], "lambda": {"loguniform": [0.1, 10]}}}
    search = {"name": "random", "trials": 2}
    searching = {"experiment": {**experiment, "evaluation": {"test": "never"}}, "seeds": [1, 2], "search": search}
    found = run.start(Sweep.read(searching), "search", tmp_path, silent, track=False)
    assert all("test_top1" not in line.numbers for trial in found.trials() for line in found.history(trial))
    assert as_json(summary(found))["family"] is None
    best = as_json(summary(found))["arms"][0]

    chosen = confirmation(found, FRESH, controls=["zeros"])
    confirmed = run.start(chosen, "confirmed", tmp_path, silent, track=False, confirms=found)
    rows = confirmed.rows()
    assert {row.arm for row in rows} >= {best["arm"], "baseline", "control_zeros"}
    assert {row.seed for row in rows} == set(FRESH)
    for row in rows:
        assert row.experiment["task"]["validation"] == 0 and row.experiment["task"]["train"] == 12
        read = [
            line.epoch for line in confirmed.history(row.run) if "test_top1" in line.numbers and line.seed == row.seed
        ]
        assert read == [2], "the test part is read once, at the end"

    family = as_json(summary(RunFolder.open(confirmed.path)))["family"]
    pairs = [(item["contrast"]["arm"], item["contrast"]["baseline"]) for item in family["findings"]]
    assert (best["arm"], "baseline") in pairs and pairs[-1] == (best["arm"], "control_zeros")
    assert all(item["verdict"] in {"resolved", "equivalent", "undecided"} for item in family["findings"])

    page, text = confirmed.path / "report.html", confirmed.path / "report.md"
    before = page.read_bytes(), text.read_bytes()
    write_report(RunFolder.open(confirmed.path))
    assert (page.read_bytes(), text.read_bytes()) == before
    assert b"This run trains the winners of &#39;search&#39; again" in before[0]
