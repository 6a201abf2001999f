"""On a GPU too, one seed is one training, bit for bit. On a machine without a GPU these tests are skipped."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import engine_cases
import pytest
import torch
from engine_cases import ended, tensors, train_into
from torch import Tensor

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.lockstep import advance
from tskd_tune.training.optimizers import OPTIMIZERS
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


def trained(trainer: Trainer) -> list[Tensor]:
    return tensors(ended(trainer).state_dict())


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def disturb() -> None:
    torch.rand(7), torch.rand(7, device="cuda")
    torch.cuda.manual_seed(5)


@every_case
def test_a_seed_gives_the_same_bits_alone_and_in_turns(tiny: Tiny, case: str) -> None:
    wanted = trained(make(tiny, case))
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
    assert equal(trained(resumed), trained(whole))


def test_dropout_on_the_gpu_draws_other_numbers_in_each_epoch(tiny: Tiny) -> None:
    trainer = make(tiny, "mobilenet_v2 with dropout", training={"graphs": "never"})
    seeds: list[int] = []

    def look(module: Any, *_: Any) -> None:
        if module.training:
            seeds.append(torch.cuda.initial_seed())

    trainer.student.register_forward_hook(look)
    trained(trainer)
    assert len(set(seeds)) == len(seeds) == 3 * 4


def test_the_generator_and_the_settings_are_left_as_they_were(tiny: Tiny) -> None:
    torch.cuda.manual_seed(11)
    before = torch.cuda.get_rng_state()
    settings = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    trained(make(tiny, "mobilenet_v2 with dropout"))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == settings


def test_an_epoch_uses_deterministic_algorithms_alone(tiny: Tiny) -> None:
    trainer, seen = make(tiny, "resnet8 with a review"), []
    settings = torch.backends.cudnn
    trainer.student.register_forward_hook(lambda *_: seen.append((settings.deterministic, settings.benchmark)))
    trainer.epoch()
    assert set(seen) == {(True, False)}


# Nine epochs of 16, 16, 16 and 8 images, whose rate drops in epochs 2 and 7.
MANY = {"task": {"train": 56}, "training": {"epochs": 9, "milestones": [2, 7]}}
GRAPHS = {**CASES, **engine_cases.CASES}


def made(tiny: Tiny, case: str, graphs: str, **over: Any) -> Trainer:
    setting = documents.merge(documents.merge(GPU, MANY), documents.merge(GRAPHS[case], over))
    return build_trainer(tiny(**documents.merge(setting, {"training": {"graphs": graphs}})))


@pytest.mark.parametrize("case", GRAPHS)
def test_captured_steps_end_with_the_bits_of_eager_ones(tiny: Tiny, case: str) -> None:
    eager, graphs = made(tiny, case, "never"), made(tiny, case, "always")
    assert equal(trained(graphs), trained(eager))
    assert [record.numbers for record in graphs.history] == [record.numbers for record in eager.history]
    assert isinstance(graphs.engine, GraphEngine) and graphs.engine.captured > 0


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_with_rates_by_step_gives_the_same_bits_with_and_without_graphs(tiny: Tiny, name: str) -> None:
    schedule = {"name": "cosine", "by": "step", "warmup": {"epochs": 1}}
    setting = {"review": None, "training": {"optimizer": name, "schedule": schedule, "lr": 0.01}}
    eager, graphed = (
        build_trainer(tiny(**documents.merge(GPU, documents.merge(setting, {"training": {"graphs": graphs}}))))
        for graphs in ("never", "auto")
    )
    assert isinstance(graphed.engine, GraphEngine) == (name not in ("adagrad", "adafactor"))
    assert equal(trained(eager), trained(graphed))


@pytest.mark.parametrize("into", [(5, 0), (5, 2)])
@pytest.mark.parametrize("case", ["a generator", "extractors with Adam", "mobilenet_v2 with dropout"])
def test_a_resume_of_captured_steps_ends_with_the_same_bits(tiny: Tiny, case: str, into: tuple[int, int]) -> None:
    wanted, cut = trained(made(tiny, case, "never")), made(tiny, case, "always")
    train_into(cut, *into)
    state = cut.state_dict()
    for graphs in ("always", "never"):
        resumed = made(tiny, case, graphs)
        resumed.load_state_dict(state)
        assert equal(trained(resumed), wanted)
    again = made(tiny, case, "always")
    for _ in range(7):
        again.epoch()
    again.load_state_dict(state)  # with graphs of tensors that are replaced
    assert equal(trained(again), wanted)


TOGETHER = ["mobilenet_v2 with dropout", "a generator", "extractors that begin anew", "resnet8 with a review"]


def test_trainings_in_streams_of_their_own_end_as_they_end_alone(tiny: Tiny) -> None:
    alone = [trained(made(tiny, case, "always")) for case in TOGETHER]
    together = [made(tiny, case, "always") for case in TOGETHER]
    assert len({trainer.compute.stream for trainer in together}) == len(TOGETHER)
    while not together[0].finished:
        advance(together)
    assert all(equal(tensors(one.state_dict()), wanted) for one, wanted in zip(together, alone, strict=True))


def test_the_memory_of_a_training_is_free_when_the_training_is_forgotten(tiny: Tiny) -> None:
    def allocated() -> int:
        torch._C._cuda_clearCublasWorkspaces()  # torch before 2.15 keeps 32 MiB for each stream
        return torch.cuda.memory_allocated()

    trained(made(tiny, "resnet8 with a review", "always"))  # which also reads the images
    gc.collect()
    torch.cuda.empty_cache()
    before = allocated()
    trainer = made(tiny, "resnet8 with a review", "always")
    trained(trainer)
    kept, engine = allocated(), weakref.ref(trainer.engine)
    del trainer
    gc.collect()
    assert engine() is None and kept > before
    assert allocated() <= before + 2**20


def test_a_training_moves_between_the_gpu_and_the_cpu(tiny: Tiny) -> None:
    first = made(tiny, "extractors with Adam", "always")
    for _ in range(4):
        first.epoch()
    state = first.state_dict()
    second = build_trainer(tiny(**documents.merge(MANY, GRAPHS["extractors with Adam"])))
    second.load_state_dict(state)
    for _ in range(2):
        second.epoch()
    third = made(tiny, "extractors with Adam", "always")
    third.load_state_dict(second.state_dict())
    assert all(record.numbers["loss"] > 0 for record in ended(third).history)


def test_what_has_no_deterministic_algorithm_is_named(tiny: Tiny) -> None:
    case = {"student": {"resolution": 16}, "review": {"taps": {"size_match": "interp_student"}}}
    trainer = build_trainer(tiny(**documents.merge(GPU, case)))
    ended(trainer)
    assert list(trainer.engine.inexact) == ["the backward pass of bilinear resizing"]
