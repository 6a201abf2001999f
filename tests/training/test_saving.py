"""An epoch that is cut off goes on at its next step, with the same bits, and decodes nothing again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detecting import METHODS, REVIEW, detection
from PIL import Image
from small_coco import write_coco
from torch import Tensor

from tskd_tune import local
from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.tasks.file_samples import FileSamples
from tskd_tune.testing.base import tensors
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver, progress_in
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.saving import SavesWithin
from tskd_tune.training.trainer import Trainer

AT_ONCE = 1e-9
# Epochs of 4 steps, nodes of 3 steps: memories until steps 2 and 5, a review in steps 6 to 8.
NODES: dict[str, Any] = {"k": 2, "delta": 1, "plan": {"node": 3}, "extractor": {"name": "conv_lstm", "hidden": 2}}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    stream = np.random.default_rng(5)
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(16):
            pixels = stream.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number:02}.png")
    return tmp_path / "set"


def streamed(root: Path, workers: int) -> Experiment:
    task = {"name": "image_folder", "root": str(root), "size": 8, "batch_size": 6, "validation": 4}
    return Experiment.read(
        {
            "task": {**task, "padding": 2, "feed": "streamed", "workers": workers},
            "teacher": {"name": "resnet14", "weights": "untrained"},
            "distiller": "ekd",
            "student": "resnet8",
            "review": NODES,
            "training": {"epochs": 3, "lr": 0.01, "device": "cpu"},
        }
    )


def ended(trainer: Trainer[Any]) -> list[Tensor]:
    while not trainer.finished:
        trainer.epoch()
    return tensors({name: value for name, value in trainer.state_dict().items() if name != "history"})


class KilledError(Exception):
    """Ends a process, as far as a test can."""


class Kills(Observer):
    """Kills a training after a step."""

    def __init__(self, epoch: int, step: int) -> None:
        self._left = step
        self._epoch = epoch

    def stepped(self, training: Training) -> None:
        if training.next_epoch == self._epoch:
            self._left -= 1
            if self._left == 0:
                raise KilledError


class Awaits(Observer):
    """Waits for the checkpoint of the step before: while one is written, the next one is left out."""

    def __init__(self, saver: Saver) -> None:
        self._saver = saver

    def stepped(self, training: Training) -> None:
        self._saver.wait()


def cut_off(trainer: Trainer[Any], path: Path, epoch: int, step: int) -> dict[str, Any]:
    """Train until a step of an epoch, with a checkpoint after each step, and return the last one."""
    saver = Saver(path, AT_ONCE)
    trainer.observers += [Awaits(saver), SavesWithin(saver, trainer.state_dict), Kills(epoch, step)]
    with pytest.raises(KilledError):
        ended(trainer)
    saver.wait()
    return checkpoint.load(path)


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Note each sample that any process decodes; the function returns these samples, and forgets them."""
    log, real = tmp_path / "decoded", FileSamples.__getitem__

    def noted(self: FileSamples, index: int) -> Tensor:
        with log.open("ab", buffering=0) as file:
            os.write(file.fileno(), f"{index}\n".encode())
        return real(self, index)

    monkeypatch.setattr(FileSamples, "__getitem__", noted)

    def read() -> list[int]:
        found = [int(line) for line in log.read_text().split()] if log.exists() else []
        log.unlink(missing_ok=True)
        return found

    return read


@pytest.mark.parametrize(("workers", "step"), [(0, 1), (0, 2), (2, 3)])
def test_a_kill_within_an_epoch_loses_no_step_and_decodes_nothing_again(
    root: Path, tmp_path: Path, decoded: Callable[[], list[int]], workers: int, step: int
) -> None:
    experiment = streamed(root, workers)
    whole = build_trainer(experiment)
    wanted = ended(whole)
    state = cut_off(build_trainer(experiment), tmp_path / "checkpoint.pt", epoch=1, step=step)
    assert progress_in(state) == (1, step)
    resumed = build_trainer(experiment)
    resumed.load_state_dict(state)
    decoded()
    assert resumed.is_within_epoch
    samples, kinds = resumed.task.facts().samples[0], list(resumed.steps())
    assert len(kinds) == 4 - step and samples > 6 * 3
    assert len(decoded()) == samples - 6 * step
    resumed.end()
    assert all(map(torch.equal, ended(resumed), wanted))
    assert [one.numbers for one in resumed.history] == [one.numbers for one in whole.history]


def test_without_seconds_checkpoints_are_written_after_epochs_alone(tmp_path: Path) -> None:
    assert not Saver(tmp_path / "a.pt", 0.0).is_due_within and Saver(tmp_path / "a.pt", 0.0).is_due
    assert Saver(tmp_path / "a.pt", AT_ONCE).is_due_within
    assert not Saver(tmp_path / "a.pt", 60.0).is_due_within


def test_a_checkpoint_of_another_process_that_is_steps_ahead_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    behind, ahead = ({"history": [1], "epoch": {"step": step}} for step in (2, 5))
    saver = Saver(path, AT_ONCE)
    checkpoint.save(ahead, path)
    saver.save(behind)
    saver.wait()
    assert progress_in(checkpoint.load(path)) == (1, 5)
    assert progress_in({"trainer": {"history": [], "epoch": None}}) == (0, 0)


def test_a_single_training_goes_on_within_its_epoch(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny(training={"checkpoint": {"seconds": AT_ONCE}, "accumulate": 2}, review=NODES)
    whole = local.start(experiment, "whole", tmp_path, lambda event: None, track=False)
    steps: list[int] = []
    real = Trainer.kind

    def kind(self: Trainer[Any], epoch: int, step: int) -> Any:
        if self.review is not None:
            steps.append(3 * epoch + step)
            if len(steps) == 8:
                raise RunError("the machine goes down")
        return real(self, epoch, step)

    monkeypatch.setattr(Trainer, "kind", kind)
    with pytest.raises(RunError, match="the machine goes down"):
        local.start(experiment, "cut", tmp_path, lambda event: None, track=False)
    cut = local.resume(RunFolder.open(tmp_path / "cut"), lambda event: None, track=False)
    # Of the steps before the kill only those are taken again whose checkpoint was still being written.
    assert steps[8] > 3 and steps[-1] == 17
    ours, theirs = ([one.metrics for one in folder.rows()] for folder in (cut, whole))
    assert ours == theirs


@pytest.mark.slow
def test_a_detector_in_bfloat16_by_nodes_and_pieces_goes_on_within_an_epoch(tmp_path: Path) -> None:
    """The masters, the optimizer and the losses stay in float32; the kernels of RoIs have no bfloat16."""
    data = write_coco(tmp_path / "data", train=12, test=2)
    review = {**REVIEW, "plan": {"node": 2}}
    training = {"epochs": 3, "lr": 0.01, "device": "cpu", "precision": "bfloat16", "accumulate": 2}
    experiment = Experiment.read(detection(data, **METHODS["detection_kd"], review=review, training=training))
    whole = build_trainer(experiment)
    wanted = ended(whole)
    assert all(tensor.dtype is not torch.bfloat16 for tensor in wanted)
    assert "loss_review" in whole.history[1].numbers and "loss_detection_kd" in whole.history[0].numbers
    assert all(np.isfinite(value) for record in whole.history for value in record.numbers.values())
    state = cut_off(build_trainer(experiment), tmp_path / "checkpoint.pt", epoch=1, step=2)
    resumed = build_trainer(experiment)
    resumed.load_state_dict(state)
    assert all(map(torch.equal, ended(resumed), wanted))
