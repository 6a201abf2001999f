"""Whole sweeps through real Ray Tune: grids, searches, and what survives the death of a worker or of the driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps import run as running
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.run import resume, start

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
GRID = {"grid": {"plain": None, "tskd": {"k": 2, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}}}}


def silent(event: Event) -> None:
    pass


def document(tiny: dict[str, Any], **over: Any) -> dict[str, Any]:
    experiment = {**tiny, "review": GRID, "training": {**tiny["training"], "lr": {"grid": [0.05, 0.01]}}}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}, **over}


def rows_of(folder: RunFolder) -> dict[tuple[str, int], Row]:
    return {(row.arm, row.seed): row for row in folder.rows()}


def test_a_grid_of_two_by_two_trains_every_point_once_a_seed(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    heard: list[Event] = []
    folder = start(Sweep.read(document(tiny_document)), "grid", tmp_path, heard.append, track=False)
    rows = rows_of(folder)
    assert len(rows) == 8 == len(folder.rows()) and {row.status for row in rows.values()} == {"done"}
    arms = sorted({arm for arm, _ in rows})
    assert arms == ["review=plain, lr=0.01", "review=plain, lr=0.05", "review=tskd, lr=0.01", "review=tskd, lr=0.05"]
    assert rows["review=tskd, lr=0.05", 2].point == {"review": "tskd", "training.lr": 0.05}
    assert rows["review=tskd, lr=0.05", 1].plan.review == [2, 5] and rows["review=plain, lr=0.05", 1].plan.review == []

    # The same point and seed trained without Ray gives the same numbers and the same student.
    row = rows["review=tskd, lr=0.05", 2]
    assert_as_alone(folder, row)
    history = [line for line in folder.history(row.run) if line.seed == 2]
    assert [line.epoch for line in history] == list(range(6)) and (history[2].number("review_loss") or 0.0) > 0

    assert sum(event.what == "epoch" for event in heard) == 8 * 6
    assert sum(event.what == "finished" for event in heard) == 8
    assert (folder.path / "report.html").exists() and (folder.path / "report.md").exists()
    before = folder.rows_path.read_text()
    resume(folder, silent, track=False)
    assert folder.rows_path.read_text() == before
    with pytest.raises(InputError, match="exists; resume the run"):
        start(Sweep.read(document(tiny_document)), "grid", tmp_path, silent, track=False)


def test_a_search_trains_all_seeds_of_a_point_in_lockstep_and_judges_their_mean(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    experiment = {**tiny_document, "review": {**tiny_document["review"], "lambda": {"loguniform": [0.1, 100.0]}}}
    search = {"name": "optuna", "trials": 4, "startup_trials": 2, "metric": "val_loss", "mode": "min"}
    sweep = Sweep.read({"experiment": experiment, "seeds": [1, 2], "search": search, "scheduler": "asha"})
    folder = start(sweep, "search", tmp_path, silent, track=False)
    rows = folder.rows()
    assert len(rows) == 8 and {row.run for row in rows} == {"00000", "00001", "00002", "00003"}
    assert all(row.epochs >= 3 for row in rows), "nothing is judged before its first review"
    assert {row.status for row in rows} <= {"done", "stopped"}
    assert all("the scheduler stopped it" in (row.reason or "") for row in rows if row.status == "stopped")

    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder.path / "study.journal")))
    (study,) = optuna.get_all_study_names(storage)
    for trial in optuna.load_study(study_name=study, storage=storage).trials:
        pair = [row for row in rows if row.run == f"{trial.user_attrs['number']:05d}"]
        mean = sum(row.metrics["val_loss"] for row in pair) / 2
        assert trial.value == pytest.approx(mean) or trial.state.name == "PRUNED"
        assert trial.params["review.lambda"] == pytest.approx(pair[0].point["review.lambda"])


def test_a_diverged_training_fails_with_its_reason_and_leaves_the_others_running(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    training = {**tiny_document["training"], "lr": {"grid": [1e20, 0.05]}}
    experiment = {**tiny_document, "review": None, "training": training}
    sweep = Sweep.read({"experiment": experiment, "seeds": [1], "search": {"name": "grid"}})
    with pytest.raises(RunError, match="1 failed.*\n.*the loss is not finite"):
        start(sweep, "diverged", tmp_path, silent, track=False)
    rows = rows_of(RunFolder.open(tmp_path / "diverged"))
    assert rows["lr=0.05", 1].status == "done"
    failed = rows["lr=1e+20", 1]
    assert failed.status == "failed" and "lower training.lr" in (failed.reason or "")
    assert "1 failed" in (tmp_path / "diverged" / "report.md").read_text()


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "REPORT_SECONDS", 0.0)
    experiment = {**tiny_document, "training": {**tiny_document["training"], "epochs": 12}}
    sweep = Sweep.read({"experiment": experiment, "seeds": [1], "search": {"name": "grid"}})
    killed: list[int] = []

    def kill_once(event: Event) -> None:
        if event.what == "epoch" and event.epoch == 5 and not killed:
            killed.extend(kill_the_workers())

    folder = start(sweep, "killed", tmp_path, kill_once, track=False)
    whole = start(sweep, "whole", tmp_path, silent, track=False)
    assert killed
    (row,), (other,) = folder.rows(), whole.rows()
    assert row.status == "done" and row.epochs == 12 and row.metrics == other.metrics
    assert [line.epoch for line in folder.history(row.run)] == list(range(12))
    first, second = (read_state(run.student_path("00000", 1)).state for run in (folder, whole))
    assert all(torch.equal(first[key], second[key]) for key in first)


def kill_the_workers() -> list[int]:
    workers = [p for p in psutil.process_iter(["cmdline"]) if "SweepTrial" in " ".join(p.info["cmdline"] or [])]
    mine = [worker for worker in workers if worker.pid in descendants()]
    assert mine
    for worker in mine:
        worker.kill()
        worker.wait()
    return [worker.pid for worker in mine]


def descendants() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_process_that_is_killed_between_two_trials_costs_the_second_one_try(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    experiment = {
        **tiny_document,
        "review": None,
        "training": {**tiny_document["training"], "lr": {"grid": [0.1, 0.2]}},
    }
    given = {"experiment": experiment, "seeds": [1], "search": {"name": "grid"}, "resources": {"concurrent": 1}}
    killed: list[int] = []

    def kill_once(event: Event) -> None:
        if event.what == "finished" and not killed:
            killed.extend(kill_the_workers())

    folder = start(Sweep.read({**given, "max_failures": 1}), "killed", tmp_path, kill_once, track=False)
    assert killed and [row.status for row in folder.rows()] == ["done", "done"]


def test_a_sweep_whose_driver_was_killed_resumes(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    experiment = {**tiny_document, "training": {**tiny_document["training"], "epochs": 30}}
    plain = {"experiment": experiment, "seeds": [1, 2, 3], "search": {"name": "grid"}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    command = [*TSKD_TUNE, "sweep", "sweep.yaml", "--name", "run", "--no-wandb"]
    driver = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    run = tmp_path / "runs" / "run"
    deadline = time.monotonic() + 1500
    while len(list(run.glob("trainings/*/history.jsonl"))) < 2 or len(histories(run)) < 12:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    finished = len((run / "rows.jsonl").read_text().splitlines()) if (run / "rows.jsonl").exists() else 0
    assert finished < 3
    command = [*TSKD_TUNE, "resume", "run", "--no-wandb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = RunFolder.open(run)
    rows = folder.rows()
    assert sorted(row.seed for row in rows) == [1, 2, 3] and all(row.status == "done" for row in rows)
    for row in rows:
        assert [line.epoch for line in folder.history(row.run)] == list(range(30))
    row = next(row for row in rows if row.seed == 1)
    alone = build_trainer(Experiment.read(row.experiment))
    while not alone.finished:
        last = alone.epoch().numbers
    assert row.metrics["test_loss"] == last["test_loss"]


def test_bundles_whose_driver_was_killed_resume_in_other_bundles(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    often = {"epochs": 20, "checkpoint": {"seconds": 0}}
    experiment = {**tiny_document, "training": {**tiny_document["training"], **often}}
    short = {"review": None, "training": {"epochs": 6}}
    experiment["choice"] = {"short": short, "plain": {"review": None}, "tskd": {}, "lost": {"training": {"lr": 1e20}}}
    resources = {"together": 8, "concurrent": 1}
    plain = {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}, "resources": resources}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    command = [*TSKD_TUNE, "sweep", "sweep.yaml", "--name", "run", "--no-wandb"]
    driver = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    run, deadline = tmp_path / "runs" / "run", time.monotonic() + 1500
    while not (run / "rows.jsonl").exists() or len((run / "rows.jsonl").read_text().splitlines()) < 4:
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    folder = RunFolder.open(run)
    before = rows_of(folder)
    ended_early = {(arm, seed) for arm in ("short", "lost") for seed in (1, 2)}
    assert before.keys() == ended_early, "a training that ends has its row while its bundle goes on"
    assert {begun.bundle for begun in folder.begun().values()} == {"00000"}, "all in one process"
    folder.replace_document({**folder.document(), "resources": {"together": 2, "concurrent": 2}})
    command = [*TSKD_TUNE, "resume", "run", "--no-wandb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "2 failed" in done.stderr, done.stderr
    rows = rows_of(RunFolder.open(run))
    assert len(rows) == 8 == len((run / "rows.jsonl").read_text().splitlines())
    assert all(rows[key] == row for key, row in before.items())
    for arm in ("plain", "tskd"):
        row = rows[arm, 2]
        assert row.status == "done" and row.cost.together == 8
        assert [line.epoch for line in folder.history(row.run)] == list(range(20))
        assert_as_alone(folder, row)


def assert_as_alone(folder: RunFolder, row: Row) -> None:
    """The training of a row ended with the numbers and the student that it has without Ray."""
    alone = build_trainer(Experiment.read(row.experiment))
    while not alone.finished:
        last = alone.epoch().numbers
    assert row.metrics["test_loss"] == last["test_loss"]
    kept = read_state(folder.student_path(row.run, row.seed)).state
    assert all(torch.equal(kept[key], value) for key, value in alone.student.state_dict().items())


def histories(run: Path) -> list[dict[str, Any]]:
    lines = [line for path in run.glob("trainings/*/history.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]
