"""What a folder of runs holds, the damaged ones among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import factories
from factories import a_cost
from tskd_tune.cli.reading import inventory
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep


def a_row(run: str, arm: str, accuracy: float, **over: Any) -> Row:
    facts = {"metrics": {"val_top1": accuracy}, "started": "", "finished": "", "cost": a_cost(60)}
    return factories.a_row(run, 1, arm, planned=6, **(facts | over))


@pytest.fixture
def storage(tmp_path: Path, tiny_document: dict[str, Any]) -> Path:
    """A sweep of which one of two trials failed, one that was interrupted, a training under way, and two damaged."""
    plain = Sweep.read({"experiment": tiny_document, "seeds": [1, 2], "search": {"name": "grid"}}).plain()
    asked = Origin("digits.yaml", "Does reviewing help?")
    ended = RunFolder.create(tmp_path, "ended", "sweep", plain, expected=2, origin=asked)
    with ended.alone():
        ended.add_row(a_row("00000", "kd", 61.5))
        ended.add_row(a_row("00001", "at", 1.0, status="failed", reason="it broke", epochs=2))
    with RunFolder.create(tmp_path, "broken off", "sweep", plain, expected=2, origin=Origin("x.yaml")).alone():
        pass
    RunFolder.create(tmp_path, "old", "train", Experiment.read(tiny_document).plain(), expected=1)
    (RunFolder.create(tmp_path, "torn", "sweep", plain).path / "state.json").write_text("{")
    (RunFolder.create(tmp_path, "gone", "sweep", plain).path / "sweep.yaml").unlink()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes.txt").write_text("no run")
    return tmp_path


def test_every_run_is_listed_and_a_damaged_one_is_a_sentence(storage: Path) -> None:
    found, damaged = inventory.inventory(storage)
    entries = {entry.run: entry for entry in found}
    assert entries.keys() == {"ended", "broken off", "old", "gone"}, "what can be read of a damaged one is listed"
    ended = entries["ended"]
    assert (ended.state, ended.trials, ended.done, ended.failed) == ("finished", 2, 1, 1)
    assert (ended.asks, ended.best) == ("Does reviewing help?", "kd, val_top1 61.50")
    assert (entries["broken off"].state, entries["broken off"].asks) == ("interrupted", "x.yaml")
    assert (entries["old"].state, entries["old"].kind, entries["old"].asks) == ("unknown", "train", None)
    assert damaged.keys() == {"torn", "gone"}
    assert "damaged" in damaged["torn"] and "sweep.yaml" in damaged["gone"]


def test_a_run_under_way_is_running(storage: Path) -> None:
    with RunFolder.open(storage / "broken off").alone():
        entries = {entry.run: entry for entry in inventory.inventory(storage)[0]}
    assert entries["broken off"].state == "running"


def test_the_command_shows_them_and_says_what_is_damaged(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory.runs(storage)
    told = capsys.readouterr().out
    assert "4 runs" in told and "Does reviewing help?" in told and "1 of 2" in told
    assert told.count("warning: ") == 2
    inventory.runs(storage, as_json=True)
    plain = json.loads(capsys.readouterr().out)
    assert len(plain["runs"]) == 4 and plain["damaged"].keys() == {"torn", "gone"}


def test_an_empty_folder_and_none_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inventory.runs(tmp_path)
    assert "holds no run" in capsys.readouterr().out
    with pytest.raises(InputError, match="there is no folder"):
        inventory.runs(tmp_path / "nowhere")
