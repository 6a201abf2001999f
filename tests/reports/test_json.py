"""The JSON of a report: a contract with whoever reads it."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from near import near

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.plain import as_json, plain

TESTS = Path(__file__).parents[1]


def test_an_old_run_has_the_json_that_it_had():
    """Recorded when the findings were dictionaries; since then keys were added and sentences were reworded."""
    whole = summary(RunFolder.open(TESTS / "records" / "format_1" / "run"))
    found, arms = as_json(whole), [arm for arm in whole.arms if any(row.status == "done" for row in arm.rows)]
    assert [measure["name"] for measure in found.pop("measures")] == ["top1", "top5", "loss"]
    assert (found.pop("method"), found.pop("concluded"), found.pop("leaks"), found.pop("frozen")) == ("", [], [], [])
    assert [(cost["arm"], cost["trainings"]) for cost in found.pop("costs")] == [
        (arm.arm, len(arm.rows)) for arm in arms
    ]
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    recorded = (TESTS / "reports" / "recorded" / "format_1.json").read_text("utf-8").rstrip("\n")
    assert near(json.loads(text), json.loads(recorded))
    assert len(text.splitlines()) == len(recorded.splitlines()), "and the same layout"


def test_rows_are_no_part_of_the_json():
    found = summary(RunFolder.open(TESTS / "records" / "format_1" / "run"))
    assert found.rows and found.arms[0].rows
    assert "rows" not in as_json(found) and "rows" not in as_json(found)["arms"][0]


def test_every_fact_of_the_findings_is_in_the_json():
    found = summary(RunFolder.open(TESTS / "records" / "format_1" / "run"))
    assert set(as_json(found)) == {field.name for field in fields(found)} - {"rows"}
    assert is_dataclass(found)


def test_what_is_no_record_has_no_json():
    with pytest.raises(TypeError, match="object is no plain data"):
        plain(object())
