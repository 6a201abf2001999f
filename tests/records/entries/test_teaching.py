"""How far teachers are, from a file that can hold anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.records.entries import teaching
from tskd_tune.records.storing.store import LocalStore

GOOD: dict[str, Any] = {
    "what": "epoch", "teacher": "resnet8", "key": "a", "epoch": 0, "epochs": 4, "seconds": 2.0, "time": "2026-01-01",
}  # fmt: skip
ODD: list[Any] = ["x", -1, [], {"a": 1}, float("inf"), float("nan"), True]


@pytest.mark.parametrize("value", ODD, ids=str)
@pytest.mark.parametrize("key", GOOD)
def test_a_damaged_line_hides_no_other(tmp_path: Path, key: str, value: Any) -> None:
    good, odd = json.dumps(GOOD), json.dumps({**GOOD, key: value})
    (tmp_path / teaching.FILE).write_text(f"{odd}\n[1]\n12\nnull\n{{\n{good}\n")
    found = teaching.teachings(teaching.lines(LocalStore(tmp_path)))
    known = [one for one in found if one.name == "resnet8"]
    assert [(one.epochs, one.planned, one.left) for one in known][-1] == (1, 4, 6.0)


@pytest.mark.parametrize("missing", ["what", "teacher", "key", "time", "epoch"])
def test_a_line_without_what_every_line_has_is_left_out(tmp_path: Path, missing: str) -> None:
    (tmp_path / teaching.FILE).write_text(json.dumps({key: value for key, value in GOOD.items() if key != missing}))
    assert teaching.lines(LocalStore(tmp_path)) == []


def test_a_teacher_that_a_resume_calls_by_another_name_is_one_teacher(tmp_path: Path) -> None:
    """With fewer teachers left to train, a resume may need no seed in the name; the first line would stay open."""
    named = {**GOOD, "teacher": "resnet8 (seed 1)"}
    ready = {key: value for key, value in GOOD.items() if key not in ("epoch", "seconds")} | {"what": "ready"}
    (tmp_path / teaching.FILE).write_text("".join(f"{json.dumps(line)}\n" for line in (named, ready)))
    (found,) = teaching.teachings(teaching.lines(LocalStore(tmp_path)))
    assert (found.name, found.state) == ("resnet8", "ready")
