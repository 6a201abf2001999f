"""A real command that is ended from outside: by a batch system, or through the death of a process of Ray's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
# A slow machine takes long; an idle one a few seconds.
MOST_SECONDS = 1200
Condition = Callable[[Path], bool]


def files(folder: Path, tiny: dict[str, Any]) -> None:
    endless = {**tiny, "teacher": None, "review": None, "training": {**tiny["training"], "epochs": 100_000}}
    (folder / "train.yaml").write_text(yaml.safe_dump(endless))
    sweep = {"experiment": endless, "seeds": [1], "search": {"name": "grid"}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))


def trains(folder: Path) -> bool:
    """Tell whether an epoch of a trial is written down; plain lines tell only of every tenth epoch."""
    return any((folder / "runs" / "run" / "trainings").glob("*/history.jsonl"))


def says(words: str) -> Condition:
    return lambda folder: words in (folder / "log").read_text()


def ended(folder: Path, command: str, act: Callable[[psutil.Process], Any], when: Condition = trains) -> Any:
    """Start a command, act once a condition holds, and return its exit code, its words and what still runs."""
    log = folder / "log"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with log.open("wb") as out:
        arguments = [*TSKD_TUNE, command, f"{command}.yaml", "--name", "run", "--no-wandb"]
        driver = subprocess.Popen(
            arguments, cwd=folder, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    process, started = psutil.Process(driver.pid), []
    try:
        deadline = time.monotonic() + MOST_SECONDS
        while not when(folder):
            assert driver.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        started = process.children(recursive=True)
        act(process)
        code = driver.wait(MOST_SECONDS)
        _, left = psutil.wait_procs(started, timeout=120)
        return code, log.read_text(), left
    finally:  # so that a failure leaves no endless training to the tests after it
        for one in [*family(process), *started, process]:
            with suppress(psutil.Error):
                one.kill()


def family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_sigterm_says_how_to_go_on_and_leaves_nothing_running(
    tiny_document: dict[str, Any], tmp_path: Path, command: str
) -> None:
    files(tmp_path, tiny_document)
    code, said, left = ended(tmp_path, command, psutil.Process.terminate)
    assert code == 128 + signal.SIGTERM and left == []
    assert said.count("error:") == 1
    assert f"continue with: tskd-tune resume {tmp_path / 'run'}" in said.replace("runs/", "")
    assert "Traceback" not in said and "***" not in said


@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_process_of_rays_that_is_killed_is_a_sentence(
    tiny_document: dict[str, Any], tmp_path: Path, name: str
) -> None:
    def kill(driver: psutil.Process) -> None:
        next(process for process in driver.children(recursive=True) if process.name() == name).kill()

    files(tmp_path, tiny_document)
    code, said, left = ended(tmp_path, "sweep", kill)
    assert code == 1 and left == []
    assert f"Ray's {name} is gone" in said and "continue with: tskd-tune resume" in said
    assert "Traceback" not in said


def test_sigterm_while_ray_starts_leaves_nothing(tiny_document: dict[str, Any], tmp_path: Path) -> None:
    def as_soon_as_it_starts(driver: psutil.Process) -> None:
        while not driver.children():
            time.sleep(0.05)
        driver.terminate()

    files(tmp_path, tiny_document)
    code, said, left = ended(tmp_path, "sweep", as_soon_as_it_starts, says("1 run"))
    assert code == 143 and left == [] and not (tmp_path / "runs" / "run").exists()
    assert "interrupted; nothing was started" in said


def test_paths_count_from_their_file_for_workers_and_for_a_resume_from_elsewhere(tmp_path: Path) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for label, shade in (("dark", 40), ("light", 200)):
            folder = tmp_path / "mine" / "data" / part / label
            folder.mkdir(parents=True)
            for number in range(8):
                Image.new("RGB", (16, 16), (shade + number,) * 3).save(folder / f"{number}.png")
    experiment = {
        "task": {"name": "image_folder", "root": "data", "size": 16, "batch_size": 4},
        "student": {"name": "resnet8"},
        "review": None,
        "training": {"epochs": 1, "device": "cpu"},
    }
    sweep = {"experiment": experiment, "seeds": [1], "search": {"name": "grid"}}
    (tmp_path / "mine" / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    command = [*TSKD_TUNE, "sweep", "mine/sweep.yaml", "--storage", "kept", "--name", "run", "--no-wandb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = yaml.safe_load((tmp_path / "kept" / "run" / "sweep.yaml").read_text())
    assert kept["experiment"]["task"]["root"] == str(tmp_path / "mine" / "data")
    more = [*TSKD_TUNE, "extend", str(tmp_path / "kept" / "run"), "--seeds", "2", "--no-wandb"]
    done = subprocess.run(more, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "kept" / "run" / "rows.jsonl").read_text().splitlines()) == 2
