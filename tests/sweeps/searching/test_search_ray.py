"""A search whose driver is killed without warning: no trial is lost, and no experiment is trained as two trials."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tskd_tune.records.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
TRIALS, EPOCHS = 5, 6


def started(folder: Path) -> int:
    return sum(1 for _ in folder.glob("trainings/*/history.jsonl"))


def kill(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver and its own process group: Ray's processes, whose workers end with them, and nothing else."""
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
def test_a_search_whose_driver_was_killed_resumes(
    scheduler: str, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    experiment = {**tiny_document, "training": {**tiny_document["training"], "lr": {"loguniform": [0.001, 0.1]}}}
    search = {"name": "optuna", "trials": TRIALS, "startup_trials": 2, "metric": "val_loss", "mode": "min"}
    plain = {"experiment": experiment, "seeds": [1, 2], "search": search, "scheduler": scheduler}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    command = [*TSKD_TUNE, "sweep", "sweep.yaml", "--name", "run", "--no-wandb"]
    driver = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    run = tmp_path / "runs" / "run"
    deadline = time.monotonic() + 1500
    try:
        while started(run) < 2:
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        kill(driver)
    before = RunFolder.open(run)
    points = {name: begun.point for name, begun in before.begun().items()}
    ended = {row.key: row for row in before.rows()}
    assert len(ended) < 2 * TRIALS
    done = subprocess.run([*TSKD_TUNE, "resume", "run", "--no-wandb"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder.open(run)
    rows = {row.key: row for row in folder.rows()}
    # A trial that was suggested and never began left nothing: its number is not used again.
    names = {name for name, _ in rows}
    assert len(rows) == 2 * TRIALS and len(names) == TRIALS
    assert all(rows[key] == row for key, row in ended.items())
    assert all(rows[name, 1].point == point for name, point in points.items())
    assert len({row.point["training.lr"] for row in rows.values()}) == TRIALS
    for (name, _), row in rows.items():
        assert [line.epoch for line in folder.history(name) if line.seed == row.seed] == list(range(row.epochs))
        assert row.status == "done" if scheduler == "fifo" else row.status in ("done", "stopped")
    storage = JournalStorage(JournalFileBackend(str(run / "study.journal")))
    study = optuna.load_study(study_name="sweep", storage=storage)
    assert sorted(f"{trial.user_attrs['number']:05d}" for trial in study.trials) == sorted(names)
    for trial in study.trials:
        of = [row for (name, _), row in rows.items() if name == f"{trial.user_attrs['number']:05d}"]
        assert trial.state.name == ("PRUNED" if of[0].epochs < EPOCHS else "COMPLETE")
