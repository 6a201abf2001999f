"""Whatever a file of a run holds, the report and the status show the rest, and a sentence names file and line."""

from __future__ import annotations

import html
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import factories
from factories import a_cost
from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import exports, paper
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.page.report import write_report

DOCUMENT = {"experiment": {"task": "digits", "student": "resnet8", "review": None}, "seeds": [1, 2, 3]}
ODD = [
    b"{",
    b"[1, 2]",
    b"null",
    b"",
    b"   ",
    b"\xff\x00\xfe\x9d",
    b'{"format": 7}',
    b'{"seed": "one", "epoch": 0}',
    b"{}",
]


def a_row(seed: int, **over: Any) -> Row:
    facts: dict[str, Any] = {
        "metrics": {"test_top1": 60.0 + seed, "val_top1": 50.0},
        "cost": a_cost(2.0, train_seconds=1.0),
        "experiment": {"seed": seed, "review": None, "student": {"name": "resnet8"}},
    }
    return factories.a_row(f"{seed:05d}", seed, planned=2, **(facts | over))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A sweep of three seeds: one is done, one broke, one was cut off."""
    found = RunFolder.create(tmp_path, "run", "sweep", DOCUMENT, expected=3)
    for seed in (1, 2, 3):
        found.begin(Begun(run=f"{seed:05d}", arm="baseline", seeds=[seed], epochs=2))
        line = {"epoch": 0, "phase": "general", "seconds": 1.0, "eval_seconds": 0.5, "loss": 2.0, "val_top1": 40.0}
        lines = [{"seed": seed, **line, "epoch": epoch} for epoch in range(2)]
        found.append_history(f"{seed:05d}", lines if seed == 1 else lines[:1])
    broke = a_row(2, status="failed", broke=True, reason="RuntimeError: boom", epochs=1, metrics={})
    factories.write_rows(found, [a_row(1), found.keep_error(broke, "Traceback")])
    return found


def everything(folder: RunFolder) -> dict[str, str]:
    """Return all that is shown of a run, form by form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = summary(folder)
        write_report(folder)
        page, markdown = (folder.path / "report.html").read_text(), (folder.path / "report.md").read_text()
        shown = {
            "json": json.dumps(as_json(found), ensure_ascii=False, allow_nan=False),
            "csv": exports.as_csv(found, "runs"),
            "arms": exports.as_csv(found, "arms"),
            "latex": latex(found),
            "page": html.unescape(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)),
            "markdown": markdown,
            "status": json.dumps(run_status(folder).plain(), ensure_ascii=False),
        }
        paper.beside(found, "table6")
    return shown


def test_what_broke_and_what_was_cut_off_stand_in_every_form(folder: RunFolder) -> None:
    shown = everything(folder)
    for form in ("json", "csv", "page", "markdown", "status"):
        assert "RuntimeError: boom" in shown[form], form
        assert "baseline" in shown[form], form
    for form in ("json", "csv", "page", "markdown"):
        assert "unfinished" in shown[form], form
    found = summary(folder)
    assert as_json(found)["runs"] == {
        "expected": 3,
        "finished": 1,
        "done": 1,
        "failed": 0,
        "stopped": 0,
        "broke": 1,
        "unfinished": 1,
        "not_begun": 0,
    }
    assert found.runs.sentence == "1 of 3 runs finished; 1 broke, 1 unfinished"
    (failed,), (cut_off,) = as_json(found)["failed"], as_json(found)["unfinished"]
    assert (failed["arm"], failed["seeds"], failed["errors"]) == ("baseline", [2], ["trials/00002/error-seed2.txt"])
    assert (cut_off["arm"], cut_off["seed"], cut_off["epochs"], cut_off["epochs_planned"]) == ("baseline", 3, 1, 2)


def test_a_mean_says_how_many_of_its_seeds_are_in_it(folder: RunFolder) -> None:
    for form in ("markdown", "latex", "page"):
        assert "61.00 (one of 3 seeds, no standard deviation)" in everything(folder)[form], form
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder.add_row(a_row(3))
    for form in ("markdown", "page"):
        assert "62.00 ± 1.41 (2 of 3 seeds)" in everything(folder)[form], form
    (arm,) = as_json(summary(folder))["arms"]
    assert (arm["n"], arm["of"], arm["metrics"]["val_top1"]["of"], arm["failed"], arm["broke"]) == (2, 3, 3, 1, 1)
    assert ",3," in everything(folder)["arms"]
    folder.add_row(a_row(2))
    assert "62.00 ± 1.00 (3 seeds)" in everything(folder)["markdown"]


def in_rows(folder: RunFolder) -> Path:
    return folder.rows_path


def in_history(folder: RunFolder) -> Path:
    return folder.history_path("00001", 1)


def in_looks(folder: RunFolder) -> Path:
    path = folder.path / "interim.jsonl"
    path.write_text('{"at": 5, "stop": false, "sentence": "Going on."}\n')
    return path


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("where", [in_rows, in_history, in_looks])
def test_an_odd_line_hides_nothing_else(folder: RunFolder, where: Callable[[RunFolder], Path], odd: bytes) -> None:
    path = where(folder)
    path.write_bytes(odd + b"\n" + path.read_bytes())
    shown = everything(folder)
    for form in ("json", "markdown", "page", "status"):
        assert f"{path.name}:1: " in shown[form].replace("\\", ""), form
        assert "RuntimeError: boom" in shown[form], form
    assert "61.00" in shown["markdown"]


@pytest.mark.parametrize(
    "text",
    ["experiment: [", "- a list", "", "experiment: {task: nowhere}\nseeds: [1]\n", "{search: 3}", "\x00\x01", None]
    + [
        f"compare: {part}"
        for part in ("{margin: x}", "{margin: .nan}", "{pairs: [[a]]}", "{controls: [a]}", "{interim: 5}")
    ]
    + ["search: {name: [optuna]}", "search: {name: optuna, metric: 3}"],
)
def test_a_damaged_sweep_yaml_hides_nothing_else(folder: RunFolder, text: str | None) -> None:
    path = folder.path / "sweep.yaml"
    path.unlink()
    if text is not None:
        path.write_text(text)
    shown = everything(folder)
    for form in ("json", "markdown", "page", "status"):
        assert "RuntimeError: boom" in shown[form], form
    assert "sweep.yaml" in shown["status"]
    assert "61.00" in shown["markdown"]


def test_a_damaged_trial_json_and_one_of_no_known_trial(folder: RunFolder) -> None:
    (folder.trial_path("00003") / "trial.json").write_bytes(b"\xff{")
    shown = everything(folder)
    assert "trial.json: is damaged" in shown["markdown"].replace("\\", "") and "trial.json" in shown["status"]
    (cut_off,) = as_json(summary(folder))["unfinished"]
    assert (cut_off["arm"], cut_off["run"], cut_off["seed"], cut_off["epochs"]) == (None, "00003", 3, 1)
