"""On a GPU too, one seed is one training, bit for bit. On a machine without a GPU these tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

Tiny = Callable[..., Experiment]
GPU: dict[str, Any] = {
    "task": {"size": 32, "batch_size": 16, "train": 64, "validation": 16, "test": 16},
    "training": {"device": "cuda", "epochs": 3},
}
REVIEWED = {"review": {"k": 1, "delta": 1}, "distiller": "kd"}
DROPOUT = {"student": {"name": "torchvision", "model": "mobilenet_v2"}, "review": None, "distiller": "none"}
CASES: dict[str, dict[str, Any]] = {
    "resnet8 with a review": REVIEWED,
    "resnet8 with ReviewKD and a review": {**REVIEWED, "distiller": "review_kd"},
    "resnet8 with CRD": {"distiller": "crd", "review": None},
    "mobilenet_v2 with dropout": DROPOUT,
    "channels last": {**REVIEWED, "training": {"channels_last": True}},
    "bfloat16": {**REVIEWED, "training": {"precision": "bfloat16"}},
    "a wide student under vgg": {**REVIEWED, "student": {"name": "vgg8"}, "teacher": {"name": "vgg13"}},
}
every_case = pytest.mark.parametrize("case", CASES)


def make(tiny: Tiny, case: str, **over: Any) -> Trainer:
    return build_trainer(tiny(**documents.merge(GPU, documents.merge(CASES[case], over))))


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state.detach().cpu().clone()]
    inner = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in inner for tensor in tensors(value)]


def ended(trainer: Trainer) -> list[Tensor]:
    while not trainer.finished:
        trainer.epoch()
    return tensors(trainer.state_dict())


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def disturb() -> None:
    torch.rand(7), torch.rand(7, device="cuda")
    torch.cuda.manual_seed(5)


@every_case
def test_a_seed_gives_the_same_bits_alone_and_in_turns(tiny: Tiny, case: str) -> None:
    wanted = ended(make(tiny, case))
    first, second, other = make(tiny, case), make(tiny, case), make(tiny, case, seed=2)
    while not first.finished:
        for trainer in (first, other, second):
            disturb()
            trainer.epoch()
    assert equal(tensors(first.state_dict()), wanted)
    assert equal(tensors(second.state_dict()), wanted)
    assert not equal(tensors(other.state_dict()), wanted)


@every_case
@pytest.mark.parametrize("epochs", [1, 2])
def test_a_resume_ends_with_the_same_bits(tiny: Tiny, case: str, epochs: int) -> None:
    whole, cut, resumed = make(tiny, case), make(tiny, case), make(tiny, case)
    for _ in range(epochs):
        cut.epoch()
    resumed.load_state_dict(cut.state_dict())
    disturb()
    assert equal(ended(resumed), ended(whole))


def test_dropout_on_the_gpu_draws_other_numbers_in_each_epoch(tiny: Tiny) -> None:
    trainer = make(tiny, "mobilenet_v2 with dropout")
    seeds: list[int] = []

    def look(module: Any, *_: Any) -> None:
        if module.training:
            seeds.append(torch.cuda.initial_seed())

    trainer.student.register_forward_hook(look)
    ended(trainer)
    assert len(set(seeds)) == len(seeds) == 3 * 4


def test_the_generator_and_the_settings_are_left_as_they_were(tiny: Tiny) -> None:
    torch.cuda.manual_seed(11)
    before = torch.cuda.get_rng_state()
    settings = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    ended(make(tiny, "mobilenet_v2 with dropout"))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == settings


def test_an_epoch_uses_deterministic_algorithms_alone(tiny: Tiny) -> None:
    trainer, seen = make(tiny, "resnet8 with a review"), []
    settings = torch.backends.cudnn
    trainer.student.register_forward_hook(lambda *_: seen.append((settings.deterministic, settings.benchmark)))
    trainer.epoch()
    assert set(seen) == {(True, False)}
