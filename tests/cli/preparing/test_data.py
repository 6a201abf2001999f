"""What `check`, `train` and `sweep` say of the data, and that damaged data ends them before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from typer.testing import CliRunner

from tskd_tune import documents
from tskd_tune.cli import app
from tskd_tune.experiment import shared_tasks
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating import estimate, stopwatch
from tskd_tune.tasks import TASKS, decoding


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(Sweep, "scheduler_for", lambda self, space: None)
    monkeypatch.setattr(stopwatch, "MOST_STEPS", 1)
    monkeypatch.setattr(estimate, "MOST_POINTS", 1)


@pytest.fixture
def run() -> Callable[..., Any]:
    def invoke(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def images(tmp_path: Path) -> Path:
    stream = np.random.default_rng(0)
    for part, each in (("Train", 8), ("Test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = stream.integers(0, 256, (10, 10 + number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{number}.png")
    return tmp_path / "set"


@pytest.fixture
def experiment(images: Path) -> dict[str, Any]:
    return {
        "task": {"name": "image_folder", "root": str(images), "size": 8, "batch_size": 8},
        "teacher": {"name": "resnet14", "training": {"epochs": 1}},
        "student": {"name": "resnet8"},
        "distiller": {"name": "kd"},
        "review": None,
        "training": {"epochs": 1, "device": "cpu", "threads": 1},
    }


def write(document: dict[str, Any], form: str = "experiment") -> str:
    whole = {"experiment": document, "seeds": [1], "search": {"name": "grid"}} if form == "sweep" else document
    Path(f"{form}.yaml").write_text(documents.dump(whole))
    return f"{form}.yaml"


def spoil(images: Path) -> None:
    for number in range(3):
        (images / "Train" / "cat" / f"{number}.png").write_bytes(b"<html>404</html>")


@pytest.mark.parametrize("form", ["experiment", "sweep"])
def test_check_shows_what_the_data_is_taken_for(
    run: Callable[..., Any], images: Path, experiment: dict[str, Any], form: str
) -> None:
    (images / ".DS_Store").write_bytes(b"")
    file = write(experiment, form)
    text = run("check", file).stdout
    assert "  2 classes: cat (10), dog (10)\n  images: 16 training (Train/), 0 validation, 4 test (Test/)\n" in text
    assert "  sizes: 10 x 10 to 17 x 10, median 13 x 10; used as 8 x 8\n  left out, hidden: 1 (.DS_Store)\n" in text
    assert "the data was not read; --data reads all of it" in text
    assert not (images.parent / "data").exists()
    found = json.loads(run("check", file, "--json", "--data").stdout)
    assert (found["data"][0]["classes"][1], found["data_warnings"]) == ({"name": "dog", "images": 10}, [])


WITH_FILES = {"image_folder", "imagenet", "cinic10", "coco", "tiny_imagenet"}


@pytest.mark.parametrize("task", sorted(set(TASKS.names()) - WITH_FILES))
def test_check_shows_the_data_of_every_task_without_files(
    run: Callable[..., Any], experiment: dict[str, Any], task: str
) -> None:
    text = run("check", write({**experiment, "task": {"name": task}})).stdout
    assert "data: " in text and " training, 0 validation, " in text
    assert ("classes: " in text) == (task != "quadratic"), "a regression has no classes"


def test_check_warns_of_images_in_both_sets(run: Callable[..., Any], images: Path, experiment: dict[str, Any]) -> None:
    shutil.copy(images / "Train" / "cat" / "1.png", images / "Test" / "dog" / "again.png")
    file = write(experiment)
    assert "all data can be read" in run("check", file, "--data").stdout
    for words in (("check", file, "--data"), ("train", file, "--name", "one", "--no-wandb")):
        text = run(*words).stdout
        assert "warning: task.root: the training set holds 1 of the 5 test images too, byte for byte" in text
        assert "Test/dog/again.png, which is Train/cat/1.png with another class" in text


def test_check_finds_all_damaged_images(run: Callable[..., Any], images: Path, experiment: dict[str, Any]) -> None:
    spoil(images)
    file = write(experiment)
    run("check", file)
    found = run("check", file, "--data", code=2).stderr
    assert "error: task.root: 3 of 20 images cannot be read" in found
    assert [f"cat/{number}.png: it is a web page" in found for number in range(3)] == [True] * 3
    plain = json.loads(run("check", file, "--data", "--json", code=2).stdout)
    assert not plain["ok"] and "3 of 20 images" in plain["problems"][0]


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_damaged_images_end_a_run_before_its_folder_and_its_teacher(
    run: Callable[..., Any], images: Path, experiment: dict[str, Any], command: str, tmp_path: Path
) -> None:
    spoil(images)
    file = write(experiment, "sweep" if command == "sweep" else "experiment")
    result = run(command, file, "--name", "first", "--no-wandb", code=2)
    assert "3 of 20 images cannot be read" in result.stderr
    assert "2 classes: cat (10), dog (10)" in result.stdout
    assert not (tmp_path / "runs").exists() or list((tmp_path / "runs").iterdir()) == []
    assert command == "train" or not ray.is_initialized()


def test_a_training_shows_its_data_and_decodes_it_once(
    run: Callable[..., Any], experiment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(experiment)
    run("check", file, "--data")
    monkeypatch.setattr(decoding, "_decode", None)
    text = run("train", file, "--name", "one", "--no-wandb").stdout
    assert text.index("2 classes: cat (10), dog (10)") < text.index("teacher resnet14")


def test_a_resume_reads_the_data_again(
    run: Callable[..., Any], images: Path, experiment: dict[str, Any], tmp_path: Path
) -> None:
    run("train", write(experiment), "--name", "one", "--no-wandb")
    rows = tmp_path / "runs" / "one" / "rows.jsonl"
    rows.unlink()
    spoil(images)
    shared_tasks._shared_task.cache_clear()  # another process, for which nothing was read yet
    result = run("resume", "one", "--no-wandb", code=2)
    assert "3 of 20 images cannot be read" in result.stderr
    assert (tmp_path / "runs" / "one" / "sweep.yaml").exists()
