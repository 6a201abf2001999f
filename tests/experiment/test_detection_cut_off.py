"""A detector's training whose process is killed: the resume ends with the very same student."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from detecting import METHODS, REVIEW, SMALL, detection
from small_coco import write_coco
from torch import Tensor

from tskd_tune import documents
from tskd_tune.networks.weights import read_state

OPTIONS = {"epochs": 4, "lr": 0.01, "device": "cpu", "threads": 1, "checkpoint": {"seconds": 0}}


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    own = {"TSKD_TUNE_CACHE": str(folder / "cache"), "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "tskd_tune", *words]
    pipe = subprocess.PIPE
    environment = {**os.environ, **own}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT)


def call(folder: Path, *words: str) -> str:
    process = begin(folder, *words)
    told, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, told
    return told


def student(run: Path) -> Mapping[str, Tensor]:
    (path,) = run.glob("trainings/*/student.pth")
    return read_state(path).state


@pytest.mark.slow
def test_a_killed_training_of_a_detector_resumes_to_the_same_student(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data", train=8, test=2)
    teacher = {**SMALL, "weights": "auto", "training": {"epochs": 1, "lr": 0.01}}
    review = {**REVIEW, "plan": {"first_memory": 0}}
    plain = detection(root, teacher=teacher, review=review, training=OPTIONS, **METHODS["detection_kd"])
    (tmp_path / "detector.yaml").write_text(documents.dump(plain))
    call(tmp_path, "train", "detector.yaml", "--name", "whole", "--storage", "runs")
    process = begin(tmp_path, "train", "detector.yaml", "--name", "cut", "--storage", "runs")
    until = time.monotonic() + 1200
    while not list((tmp_path / "runs" / "cut").glob("trainings/*/checkpoint.pt")):
        assert process.poll() is None and time.monotonic() < until, "no checkpoint was written"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "runs" / "cut").glob("trainings/*/student.pth")), "the training ended too early"
    call(tmp_path, "resume", "cut", "--storage", "runs")
    whole, resumed = student(tmp_path / "runs" / "whole"), student(tmp_path / "runs" / "cut")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
