"""`init` copies a search space into the current folder, once, and lists them with their questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tskd_tune.cli import app
from tskd_tune.records.entries.origin import Origin
from tskd_tune.shipped import spaces


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_without_a_name_all_are_listed_with_their_questions():
    shown = run("init")
    assert all(name in shown and Origin.of(path).sentence in shown for name, path in spaces().items())
    assert json.loads(run("init", "--json")) == {name: Origin.of(path).sentence for name, path in spaces().items()}


@pytest.mark.parametrize("name", ["digits", "digits.yaml"])
def test_a_copy_is_the_file(name: str, empty: Path):
    assert "tskd-tune sweep digits.yaml" in run("init", name)
    assert (empty / "digits.yaml").read_bytes() == spaces()["digits"].read_bytes()
    assert "tskd_increment: 12 epochs" in run("plan", "digits.yaml")


def test_nothing_is_overwritten(empty: Path):
    (empty / "digits.yaml").write_text("mine: 1\n")
    assert "digits.yaml is in this folder already; rename it" in run("init", "digits", code=2)
    assert (empty / "digits.yaml").read_text() == "mine: 1\n"


def test_a_slip_is_met_with_the_nearest_name(empty: Path):
    assert "did you mean 'digits'?" in run("init", "digts", code=2)
    assert list(empty.iterdir()) == []


def test_a_plan_is_drawn_by_name():
    assert "tskd_increment: 12 epochs" in run("plan", "digits")
