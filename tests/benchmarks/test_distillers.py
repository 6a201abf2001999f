"""The benchmark of distillers measures what it says, plain training being the unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import distillers
from benchmarks.__main__ import app

SETTING = distillers.Setting("resnet14", "resnet8", samples=200, batch_size=8, steps=2, threads=1)


def test_plain_training_is_the_unit_and_a_teacher_costs_time() -> None:
    plain, at = distillers.measure(SETTING, ["at"], rounds=2)
    assert (plain.name, plain.time_ratio, plain.memory_ratio) == ("none", 1.0, 1.0)
    assert at.name == "at" and at.seconds > 0 and at.bytes > 0
    assert at.time_ratio == pytest.approx(at.seconds / plain.seconds)


def test_an_epoch_is_as_many_steps_as_asked_for() -> None:
    trainer = SETTING.trainer("kd")
    trainer.begin()
    kinds = list(trainer.steps())
    trainer.end()
    assert len(kinds) == SETTING.steps and trainer.teacher is not None


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    words = ["distillers", "kd", "--teacher", "resnet14", "--student", "resnet8", "--samples", "200"]
    words += ["--batch-size", "8", "--steps", "1", "--rounds", "1", "--json", str(tmp_path / "costs.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "ms a step" in result.output and "kd" in result.output
    assert [cost["name"] for cost in json.loads((tmp_path / "costs.json").read_text())] == ["none", "kd"]
