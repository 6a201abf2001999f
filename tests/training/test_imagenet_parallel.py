"""ImageNet's layout at 64 and 224 pixels: two workers train as one does, and a training goes on within an epoch."""

from __future__ import annotations

import multiprocessing
import os
import zipfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import tensors
from tskd_tune.testing.workers import groups, in_float64, trained
from tskd_tune.training.group import Group, listening, reached
from tskd_tune.training.trainer import Trainer

pytestmark = pytest.mark.slow
HERE, PATIENCE = "127.0.0.1", 120.0
EACH, HELD = 16, 4
# Networks of depthwise convolutions multiply any rounding by about a hundred in each step.
BASE: dict[str, Any] = {
    "task": {"name": "imagenet", "batch_size": 9, "workers": 0},
    "student": "resnet8",
    "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
    "distiller": "kd",
    "review": {"k": 1, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}},
    "training": {"epochs": 2, "lr": 0.05, "device": "cpu", "fold": False},
    "evaluation": {"test": "every_epoch"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 real images of three classes in ImageNet's layout: those beside the repository or in TSKD_TUNE_TIN100_ZIP."""
    beside = Path(__file__).parents[3] / "shared" / "data" / "tin100-32.zip"
    given = Path(os.environ.get("TSKD_TUNE_TIN100_ZIP", beside))
    if not given.is_file():
        pytest.skip(f"there is no {given.name} in ../shared/data: name the file by TSKD_TUNE_TIN100_ZIP")
    folder = tmp_path_factory.mktemp("imagenet")
    with zipfile.ZipFile(given) as packed:
        for part, each in (("train", EACH), ("val", HELD)):
            found: dict[str, list[str]] = {}
            for name in sorted(name for name in packed.namelist() if name.endswith(".jpg") and f"{part}/" in name):
                found.setdefault(name.split("/")[-2], []).append(name)
            for wnid in sorted(found)[:3]:
                for name in found[wnid][:each]:
                    path = folder / part / wnid / Path(name).with_suffix(".JPEG").name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(packed.read(name))
    return folder


def experiment(root: Path, **task: Any) -> Experiment:
    return Experiment.read(documents.merge(BASE, {"task": {"root": str(root), **task}}))


def state_of(trainer: Trainer) -> list[Tensor]:
    return tensors({name: value for name, value in trainer.state_dict().items() if name != "history"})


def near(found: Trainer, wanted: Trainer, tolerance: float) -> None:
    for one, other in zip(state_of(found), state_of(wanted), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(found.history, wanted.history, strict=True):
        assert ours.numbers == pytest.approx(theirs.numbers, rel=max(tolerance, 1e-5))


@pytest.mark.parametrize(("size", "batch", "fraction"), [(64, 9, 1.0), (224, 4, 0.25)])
def test_two_workers_train_as_one_does(root: Path, size: int, batch: int, fraction: float) -> None:
    options = experiment(root, size=size, batch_size=batch, fraction=fraction)
    whole = in_float64(build_trainer(options))
    workers = [in_float64(build_trainer(options, group)) for group in groups(2)]
    assert whole.task.facts().samples == (3 * EACH * fraction, 0, 3 * HELD)
    trained([whole])
    first, second = trained(workers)
    assert {"test_top1", "test_loss"} <= set(whole.history[-1].numbers)
    near(first, whole, 1e-9)
    assert all(map(torch.equal, state_of(first), state_of(second)))


def test_two_processes_train_as_one_does(root: Path, tmp_path: Path) -> None:
    """Each process decodes its share of each batch, by one worker of its own."""
    document = documents.merge(
        BASE, {"task": {"root": str(root), "size": 64, "workers": 1, "fraction": 0.25, "batch_size": 4}}
    )
    whole = trained([in_float64(build_trainer(Experiment.read(document)))])[0]
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    ends = [here, there]
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    processes = [spawn.Process(target=one_of_two, args=(rank, ends[rank], document, files[rank])) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=1200)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (torch.load(file, weights_only=True) for file in files)
    assert all(map(torch.equal, first, second))
    for one, other in zip(first, state_of(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def one_of_two(rank: int, other: Connection, document: dict[str, Any], file: Path) -> None:
    """Train as one of two processes, and write the state at the end."""
    torch.set_num_threads(1)
    if rank == 0:
        store, port = listening(HERE, 2, patience=PATIENCE)
        other.send(port)
    else:
        store = reached(HERE, other.recv(), 2, patience=PATIENCE)
    group = Group.join(store, rank, 2, torch.device("cpu"), patience=PATIENCE)
    (trainer,) = trained([in_float64(build_trainer(Experiment.read(document), group))])
    torch.save(state_of(trainer), file)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_goes_on_within_an_epoch_bit_for_bit(root: Path, workers: int) -> None:
    build: Callable[[], Trainer] = partial(build_trainer, experiment(root, size=64, workers=workers))
    unbroken, first, second = build(), build(), build()
    trained([unbroken])
    trained([first], epochs=1)
    first.begin()
    steps = first.steps()
    for _ in range(2):
        next(steps)
    second.load_state_dict(first.state_dict())
    assert len(list(second.steps())) == unbroken.task.steps() - 2
    second.end()
    assert second.finished
    assert all(map(torch.equal, state_of(second), state_of(unbroken)))
    assert [record.numbers for record in second.history] == [record.numbers for record in unbroken.history]
