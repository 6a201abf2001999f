"""The callbacks that come with the package: a command, TensorBoard and MLflow."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import factories
from tskd_tune.callbacks import CALLBACKS, Callback, Heard, refuse_unready
from tskd_tune.callbacks import base as callbacks_base
from tskd_tune.callbacks.base import build
from tskd_tune.errors import InputError, RunError
from tskd_tune.records.entries.events import Event, row_event
from tskd_tune.registry import Component

WRITES = """
import json, os, sys
event = json.load(sys.stdin)
shown = {name: value for name, value in os.environ.items() if name.startswith("TSKD_TUNE_") and "CACHE" not in name}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps([event, shown]) + "\\n")
"""


def made(name: str, path: Path, **options: Any) -> Callback:
    component: Component = CALLBACKS.slot().parse({"name": name, **options})
    return build(component, Heard("a-run", path))


def epoch(number: int, seed: int = 1, **metrics: float) -> Event:
    shown = {"seed": seed, "epoch": number, "time": "now", "phase": "general", "loss": 1.0 / (number + 1), **metrics}
    return Event("epoch", "kd", "t1", seed, number, 4, metrics=shown)


def test_a_command_has_the_event_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = made("command", tmp_path, words=[sys.executable, "-c", WRITES, str(out)], on=["epoch", "ended"])
    command.hear(epoch(2, val_top1=float("nan")))
    command.hear(Event("note", "", reason="not asked for"))
    command.hear(Event("ended", "", reason="2 failed"))
    (first, shown), (second, last) = map(json.loads, out.read_text().splitlines())
    assert (first["what"], first["sweep"], first["metrics"]["loss"]) == ("epoch", "a-run", pytest.approx(1 / 3))
    assert first["metrics"]["val_top1"] is None, "strict JSON has no NaN"
    assert shown == {
        "TSKD_TUNE_SWEEP": "a-run", "TSKD_TUNE_FOLDER": str(tmp_path), "TSKD_TUNE_WHAT": "epoch", "TSKD_TUNE_ARM": "kd",
        "TSKD_TUNE_RUN": "t1", "TSKD_TUNE_SEED": "1", "TSKD_TUNE_EPOCH": "2", "TSKD_TUNE_EPOCHS": "4",
        "TSKD_TUNE_REASON": "",
    }  # fmt: skip
    assert second["reason"] == last["TSKD_TUNE_REASON"] == "2 failed"


def test_the_event_of_a_row_has_the_whole_row(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = made("command", tmp_path, words=[sys.executable, "-c", WRITES, str(out)])
    row = factories.a_row("t1", 1, "kd")
    command.hear(row_event(row))
    ((event, _),) = map(json.loads, out.read_text().splitlines())
    assert event["what"] == "finished" and event["row"] == row.model_dump(mode="json")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/no/such/program"], "'/no/such/program' cannot be run: No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('no route to host')"], "returned the status 1: no route to host"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "was ended after 0.3 s"),
    ],
)
def test_a_command_that_fails_says_how(words: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=sentence):
        made("command", tmp_path, words=words, on=["note"], seconds=0.3 if "sleep" in words[-1] else 30.0).hear(
            Event("note", "")
        )


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks_base, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"'tensorboard' needs the package tensorboard: pip install 'tskd-tune\[tens"):
        refuse_unready([CALLBACKS.slot().parse("tensorboard")])


def test_mlflow_without_a_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="'mlflow' has no tracking server; set its option uri, or the variable MLFLOW"):
        refuse_unready([CALLBACKS.slot().parse("mlflow")])
    refuse_unready([CALLBACKS.slot().parse({"name": "mlflow", "uri": "http://localhost:5000"})])


def scalars(folder: Path, key: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return [(one.step, pytest.approx(one.value)) for one in read.Scalars(key)]


def test_tensorboard_has_each_epoch_once_also_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = made("tensorboard", tmp_path)
    for number in (0, 1, 2, 1, 2):  # the worker was lost, and trained two epochs again
        first.hear(epoch(number))
    first.hear(epoch(0, seed=2))
    first.close()
    second = made("tensorboard", tmp_path)
    for number in (1, 2, 3):
        second.hear(epoch(number, lr=0.1))
    second.hear(Event("finished", "kd", "t1", 1, 3, 4))
    second.close()
    folder = tmp_path / "tensorboard" / "t1-seed1"
    assert scalars(folder, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3), (3, 0.25)]
    assert [step for step, _ in scalars(folder, "lr")] == [1, 2, 3]
    assert scalars(tmp_path / "tensorboard" / "t1-seed2", "loss") == [(0, 1.0)]


@pytest.mark.parametrize("teachers", [True, False])
def test_tensorboard_has_teachers_unless_they_are_left_out(teachers: bool, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    callback = made("tensorboard", tmp_path, teachers=teachers)
    callback.hear(Event("teacher", "resnet56", "abc", epoch=0, epochs=2, metrics={"loss": 2.0}))
    callback.close()
    assert (tmp_path / "tensorboard" / "teacher-abc").exists() == teachers


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_run_for_each_training_which_a_resume_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database takes half a minute to make
    uri = f"file:{tmp_path / 'mlruns'}"
    first = made("mlflow", tmp_path, uri=uri, experiment="mine")
    for number in (0, 1, 1):
        first.hear(epoch(number))
    first.hear(epoch(0, seed=2))
    second = made("mlflow", tmp_path, uri=uri, experiment="mine")
    for number in (1, 2):
        second.hear(epoch(number))
    row = factories.a_row("t1", 1, "kd").model_copy(update={"point": {"review.k": 3}})
    second.hear(row_event(row))
    client = mlflow.MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name("mine").experiment_id
    runs = {run.data.tags["tskd_tune.training"]: run for run in client.search_runs([place])}
    assert sorted(runs) == ["a-run/t1-seed1", "a-run/t1-seed2"]
    run = runs["a-run/t1-seed1"]
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [one.step for one in sorted(history, key=lambda one: one.step)] == [0, 1, 2]
    assert run.data.params == {"arm": "kd", "seed": "1", "review.k": "3"}
    assert (run.info.status, runs["a-run/t1-seed2"].info.status) == ("FINISHED", "RUNNING")
