"""A driver that is killed without warning, and Tune's own restore: no point is lost, none is trained as two trials."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TRIALS = 8
EPOCHS = 3
DRIVER = f"""
import json, os, sys, time
from pathlib import Path
import ray
from ray import tune
from tskd_tune.sweep.search import SCHEDULERS, SEARCHERS
from tskd_tune.sweep.space import SearchSpace

folder, searcher, scheduler, again = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "again"

class Trainable(tune.Trainable):
    def setup(self, config):
        self.epoch = 0

    def reset_config(self, new_config):
        self.epoch = 0
        return True

    def step(self):
        time.sleep(0.25)
        self.epoch += 1
        if self.epoch == {EPOCHS}:
            with (folder / "finished.jsonl").open("a") as file:
                file.write(json.dumps(self.config["values"]) + "\\n")
        value = self.config["values"].get("x", 0) + self.epoch
        return {{"val_top1": float(value), "epoch": self.epoch - 1, "epochs": {EPOCHS}, "done": self.epoch == {EPOCHS}}}

    def save_checkpoint(self, checkpoint_dir):
        (Path(checkpoint_dir) / "epoch").write_text(str(self.epoch))

    def load_checkpoint(self, checkpoint_dir):
        self.epoch = int((Path(checkpoint_dir) / "epoch").read_text())

def describe(point):
    return {{"values": point.values, "label": point.label}}

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
if again:
    tuner = tune.Tuner.restore(str(folder / "run"), Trainable, resume_errored=True)
else:
    choices, goals = list(range({TRIALS})), {{"val_top1": "max"}}
    if searcher == "grid":
        chosen = SEARCHERS.build("grid", SearchSpace({{"x": {{"grid": choices}}}}), describe, goals, None)
    else:
        space = SearchSpace({{"x": {{"uniform": [0, 1]}}, "y": {{"choice": {{"a": None, "b": {{"int": [1, 5]}}}}}}}})
        journal = folder / "study.journal"
        chosen = SEARCHERS.build(
            "optuna", space, describe, goals, journal, trials={TRIALS}, startup_trials=2
        )
    tuner = tune.Tuner(
        Trainable,
        tune_config=tune.TuneConfig(
            search_alg=chosen[0],
            scheduler=SCHEDULERS.build(scheduler, {EPOCHS}, [], "val_top1", "max"),
            num_samples=chosen[1],
            max_concurrent_trials=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="run", storage_path=str(folder), verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
results = tuner.fit()
report = [
    {{"values": result.config["values"], "epoch": result.metrics["epoch"], "error": str(result.error)}}
    for result in results
]
(folder / "report.json").write_text(json.dumps(report))
"""


def drive(folder: Path, searcher: str, scheduler: str, again: str) -> subprocess.Popen[bytes]:
    script = folder / "driver.py"
    script.write_text(DRIVER)
    environment = {
        **os.environ,
        "TUNE_GLOBAL_CHECKPOINT_S": "0.4",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    log = (folder / f"driver-{again}.log").open("wb")
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), searcher, scheduler, again],
        stdout=log,
        stderr=log,
        env=environment,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )


def finished(folder: Path) -> list[dict]:
    path = folder / "finished.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver and its own process group: Ray's processes, whose workers end with them, and nothing else."""
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def wait_for(driver: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(finished(folder)) < count:
        assert driver.poll() is None, (folder / "driver-first.log").read_text()[-3000:]
        assert time.monotonic() < deadline, (folder / "driver-first.log").read_text()[-3000:]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("searcher", "scheduler", "count"), [("grid", "fifo", 3), ("optuna", "fifo", 4), ("optuna", "asha", 2)]
)
def test_killed_driver(tmp_path: Path, searcher: str, scheduler: str, count: int):
    first = drive(tmp_path, searcher, scheduler, "first")
    try:
        wait_for(first, tmp_path, count)
    finally:
        kill(first)
    again = drive(tmp_path, searcher, scheduler, "again")
    try:
        code = again.wait(timeout=120)
    finally:
        if again.poll() is None:
            kill(again)
    assert code == 0, (tmp_path / "driver-again.log").read_text()[-3000:]

    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report) == TRIALS
    assert all(trial["error"] == "None" for trial in report)
    values = [json.dumps(trial["values"]) for trial in report]
    assert len(set(values)) == TRIALS
    if searcher == "grid":
        assert sorted(trial["values"]["x"] for trial in report) == list(range(TRIALS))
        assert all(trial["epoch"] == EPOCHS - 1 for trial in report)
    else:
        check_mirror(tmp_path / "study.journal", report)


def check_mirror(journal: Path, report: list[dict]) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(journal))))
    ended = {
        trial.user_attrs["trial"]: trial for trial in study.trials if "lost" not in trial.user_attrs.get("failed", "")
    }
    assert len(study.trials) == len({trial.user_attrs["trial"] for trial in study.trials})
    by_x = {trial["values"]["x"]: trial for trial in report}
    assert {trial.params["x"] for trial in ended.values()} == set(by_x)
    for trial in ended.values():
        stopped = by_x[trial.params["x"]]["epoch"] + 1 < EPOCHS
        assert trial.state.name == ("PRUNED" if stopped else "COMPLETE")
