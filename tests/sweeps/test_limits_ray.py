"""A budget ends a whole sweep on Ray Tune, also the trials that wait for a place; a plug-in's error is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
EPOCHS = 40
# An observer that makes an epoch last a second while the file `slow` exists, whatever the speed of the machine.
PACE = """
import time
from pathlib import Path

from tskd_tune.training.observers import Observer

class Pace(Observer):
    def ended(self, training, record):
        if (Path(__file__).parent / "slow").exists():
            time.sleep(1)
        return super().ended(training, record)
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TSKD_TUNE, *arguments, "--no-wandb"], cwd=folder, capture_output=True, text=True)


def numbers(row: Row) -> tuple[object, ...]:
    return row.arm, row.seed, row.status, row.epochs, row.metrics["test_loss"]


def test_a_sweep_ends_with_its_budget_and_goes_on(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    training = {**tiny_document["training"], "epochs": EPOCHS, "lr": {"grid": [0.01, 0.02, 0.03]}}
    experiment = {**tiny_document, "review": None, "training": training, "observe": [{"name": "pace:Pace"}]}
    (tmp_path / "pace.py").write_text(PACE)
    (tmp_path / "slow").touch()
    budget = {"hours": 14 / 3600}
    # Three trials at once where two have room: one waits for its place.
    plain = {"experiment": experiment, "search": {"name": "grid"}, "resources": {"concurrent": 3}, "budget": budget}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    done = command(tmp_path, "sweep", "sweep.yaml", "--name", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The budget of 0.00388889 h is used up: " in done.stdout + done.stderr and "Traceback" not in done.stderr
    folder = RunFolder.open(tmp_path / "runs" / "run")
    assert all(row.cut and row.status == "stopped" and row.epochs < EPOCHS for row in folder.rows())
    (tmp_path / "slow").unlink()
    assert (folder.path / "report.html").exists()
    again = command(tmp_path, "resume", "run")
    assert again.returncode == 2 and "is used up" in again.stderr and "--hours 2" in again.stderr
    shown = subprocess.run([*TSKD_TUNE, "status", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert "grid, fifo, at most 0.00388889 h; 0.00 h left" in shown.stdout
    more = command(tmp_path, "resume", "run", "--hours", "1")
    assert more.returncode == 0, more.stdout + more.stderr
    rows = RunFolder.open(folder.path).rows()
    assert len(rows) == 3 and all(row.status == "done" and row.epochs == EPOCHS for row in rows)


def test_the_error_of_a_sampler_ends_the_search_with_its_name(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import optuna\n"
        "class Mine(optuna.samplers.RandomSampler):\n"
        "    def after_trial(self, study, trial, state, values):\n"
        "        if 'number' in trial.user_attrs:\n"
        "            raise KeyError('own trouble')\n"
    )
    training = {**tiny_document["training"], "epochs": 3, "lr": {"loguniform": [0.001, 0.1]}}
    search = {"name": "optuna", "trials": 3, "sampler": "mine:Mine", "metric": "val_loss", "mode": "min"}
    plain = {"experiment": {**tiny_document, "training": training}, "search": search}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    done = command(tmp_path, "sweep", "sweep.yaml", "--name", "run")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "search.sampler: 'mine:Mine' failed (KeyError: 'own trouble', mine.py:5)" in done.stderr
    assert "Traceback" not in done.stderr
