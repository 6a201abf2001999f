"""Workers on GPUs, which exchange by NCCL. Machines with fewer GPUs skip these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import tensors
from tskd_tune.training import checkpoint
from tskd_tune.training.batch_norms import BatchNorms
from tskd_tune.training.group import Group, listening

Tiny = Callable[..., Experiment]
HERE = "127.0.0.1"
WORKER = """
import json, sys, torch
from pathlib import Path
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training import checkpoint
from tskd_tune.training.group import Group, reached

document, port, rank, path = sys.argv[1:]
store = reached("127.0.0.1", int(port), 2, patience=60)
group = Group.join(store, int(rank), 2, torch.device("cuda"), patience=60)
trainer = build_trainer(Experiment.read(json.loads(document)), group)
while not trainer.finished:
    trainer.epoch()
checkpoint.save(trainer.state_dict(), Path(path))
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_batch_norm_of_one_worker_is_that_of_torch() -> None:
    store, _ = listening(HERE, 1, patience=30)
    group = Group.join(store, 0, 1, torch.device("cuda"), patience=30)
    found = []
    for shared in (False, True):
        torch.manual_seed(0)
        norm = torch.nn.BatchNorm2d(5).cuda()
        values = torch.randn(6, 5, 4, 4, device="cuda", requires_grad=True)
        with BatchNorms(group if shared else None):
            normalized = norm(values)
        (normalized * torch.arange(4, device="cuda")).sin().sum().backward()
        found.append([normalized, values.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    for one, other in zip(*found, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one_does(tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(distiller="rkd", training={"device": "cuda", "epochs": 3}, task={"train": 27})
    alone = build_trainer(experiment)  # which also trains the teacher, for all
    while not alone.finished:
        alone.epoch()
    store, port = listening(HERE, 2, patience=60)
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    words = json.dumps(experiment.plain())
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, words, str(port), str(rank), str(file)],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": str(rank)},
        )
        for rank, file in enumerate(files)
    ]
    assert [worker.wait(300) for worker in workers] == [0, 0], store
    first, second = (checkpoint.load(file) for file in files)
    assert all(map(torch.equal, tensors(first["student"]), tensors(second["student"])))
    for one, other in zip(first["history"], alone.history, strict=True):
        assert one["loss"] == pytest.approx(other.numbers["loss"], rel=1e-2)
