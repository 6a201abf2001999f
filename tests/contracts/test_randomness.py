"""One seed, one training, bit for bit: whatever draws numbers, whatever runs between its epochs, and after a resume."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detecting import METHODS, detection
from small_coco import write_coco
from torch import Tensor, nn

from tskd_tune import documents
from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers import DISTILLERS, Distiller, Need
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build_teacher
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.networks import NETWORKS
from tskd_tune.registry import Entry
from tskd_tune.teaching import TEACHER_METHODS
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
# Two epochs of two steps; the second reviews.
SHORT = {
    "task": {"batch_size": 4, "train": 8, "validation": 0, "test": 4},
    "training": {"epochs": 2, "lr": 0.01},
    "review": {"k": 1, "delta": 1},
}
REQUIRED: dict[str, dict[str, Any]] = {
    "mlp": {"size": 8},
    "timm": {"model": "test_efficientnet"},
    "torchvision": {"model": "resnet18"},
    "combined": {"parts": {"kd": "kd", "hint": {"name": "at", "power": 1}}},
}
LARGE = (
    *("resnet32", "resnet44", "resnet56", "resnet110", "resnet32x4", "resnet18", "resnet34", "resnet50"),
    *("vgg13", "wrn_16_2", "wrn_40_1", "wrn_40_2", "torchvision"),
)
# Networks that draw numbers while they train: dropout, stochastic depth, dropped paths.
DRAWING = {
    "torchvision dropout": {"name": "torchvision", "model": "mobilenet_v2"},
    "torchvision stochastic depth, slow": {"name": "torchvision", "model": "efficientnet_b0"},
    "timm dropped paths": {"name": "timm", "model": "test_convnext"},
    "timm dropped paths, slow": {"name": "timm", "model": "nextvit_small"},
}
DROPOUT: dict[str, Any] = {
    "student": DRAWING["torchvision dropout"],
    "teacher": {**DRAWING["torchvision dropout"], "training": {"epochs": 1, "lr": 0.001}},
    "task": {"size": 32},
    "training": {"lr": 0.001},
}
NOISY = "noisy_for_a_test"


def slow_if(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.long if name in LARGE else ())


def experiment(tiny: Tiny, **over: Any) -> Experiment:
    return tiny(**documents.merge(SHORT, over))


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state.clone()]
    inner = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in inner for tensor in tensors(value)]


def losses(trainer: Trainer) -> str:
    """Write down what was measured; in words, since a loss of so few steps may be no number."""
    return str(
        [{name: value for name, value in record.plain().items() if "seconds" not in name} for record in trainer.history]
    )


def disturb() -> None:
    """Do what another training, an evaluation or a probe of the same process may do to global generators."""
    torch.rand(17), np.random.rand(5), random.random()
    torch.manual_seed(123)


def see_one_training(make: Callable[[], Trainer]) -> None:
    """Train once, twice more in turns with others between, and once with a resume: one result, bit for bit."""
    alone, first, second = make(), make(), make()
    while not alone.finished:
        alone.epoch()
    wanted, history = tensors(alone.state_dict()), losses(alone)
    for _ in range(2):
        disturb()
        first.epoch()
        disturb()
        second.epoch()
    resumed, cut = make(), make()
    disturb()
    cut.epoch()
    resumed.load_state_dict(cut.state_dict())
    disturb()
    resumed.epoch()
    for other in (first, second, resumed):
        found = tensors(other.state_dict())
        assert len(found) == len(wanted) and all(map(torch.equal, found, wanted))
        assert losses(other) == history


def networks() -> list[Any]:
    return [slow_if(name) for name in NETWORKS.names() if not name.startswith("faster_rcnn")]


@pytest.mark.parametrize("name", networks())
def test_every_network_trains_to_the_same_bits(tiny: Tiny, name: str) -> None:
    if name == "timm":
        pytest.importorskip("timm")
    student = {"name": name, **REQUIRED.get(name, {})}
    plain = experiment(tiny, student=student, review=None, distiller="none")
    see_one_training(lambda: build_trainer(plain))


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.long if "slow" in kind else ()) for kind in DRAWING],
)
def test_networks_that_draw_numbers_train_to_the_same_bits(tiny: Tiny, kind: str) -> None:
    pytest.importorskip(DRAWING[kind]["name"])
    drawing = experiment(tiny, student=DRAWING[kind], task={"size": 32}, review=None)

    def make(*, still: bool = False) -> Trainer:
        trainer = build_trainer(drawing)
        _drop_paths(trainer.student)
        for part in trainer.student.modules():
            if _chance(part):
                part.p = part.drop_prob = 0.0 if still else _chance(part)
        return trainer

    see_one_training(make)
    drawn, still = make(), make(still=True)
    drawn.epoch(), still.epoch()
    assert not all(map(torch.equal, tensors(drawn.state_dict()), tensors(still.state_dict())))


def _drop_paths(student: nn.Module) -> None:
    """Let timm's blocks drop their paths, which no small model of timm does by default."""
    for part in student.modules():
        if isinstance(getattr(part, "drop_path", None), nn.Identity):
            part.drop_path = importlib.import_module("timm.layers").DropPath(0.5)


def _chance(part: nn.Module) -> float:
    drops = type(part).__name__ in ("Dropout", "StochasticDepth", "DropPath")
    return float(getattr(part, "p", None) or getattr(part, "drop_prob", None) or 0.0) if drops else 0.0


@pytest.mark.parametrize("name", DISTILLERS.names())
def test_every_distiller_trains_to_the_same_bits_beside_a_review(tiny: Tiny, name: str, tmp_path: Path) -> None:
    needs = DISTILLERS.entry(name).factory.needs
    teacher = {"weights": "untrained" if Need.TRAINABLE_TEACHER in needs else "auto"}
    if Need.BOXES in needs:  # its detector draws, too
        training = {"epochs": 2, "lr": 0.01, "device": "cpu"}
        over = {"review": SHORT["review"], "training": training, **METHODS[name]}
        reviewed = Experiment.read(detection(write_coco(tmp_path, train=8, test=2), **over))
    else:
        reviewed = experiment(tiny, distiller={"name": name, **REQUIRED.get(name, {})}, teacher=teacher)
    see_one_training(lambda: build_trainer(reviewed))


@pytest.mark.parametrize("name", TEACHER_METHODS.names())
def test_every_teacher_trains_to_the_same_bits(tiny: Tiny, name: str) -> None:
    training = {"epochs": 2, "lr": 0.01, "method": name}
    taught = experiment(tiny, teacher={"weights": "auto", "training": training}, distiller="kd")
    see_one_training(lambda: build_teacher(taught))


def test_a_teacher_with_dropout_trains_to_the_same_bits(tiny: Tiny) -> None:
    network = {**DRAWING["torchvision dropout"], "training": {"epochs": 2, "lr": 0.001}}
    document = experiment(tiny, distiller="kd", preset="paper").plain()
    taught = Experiment.read({**document, "teacher": network})
    see_one_training(lambda: build_teacher(taught))


class Noisy(Distiller):
    """Draws from every global generator, in its constructor and at every step, and changes no gradient by it."""

    needs = frozenset({Need.LOGITS})

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.rand(3) + float(np.random.rand()) + random.random())
        self.register_buffer("drawn", torch.zeros(3, dtype=torch.float64))

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> dict[str, Tensor]:
        drawn = [float(torch.rand(5).sum()), float(np.random.rand(3).sum()), random.random()]
        self.drawn = torch.tensor(drawn, dtype=torch.float64)
        return {"noise": 0.0 * student.logits.sum() + 0.0 * self.first.sum()}


@pytest.fixture
def noisy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    entry = Entry(NOISY, Noisy, "a test")
    monkeypatch.setitem(DISTILLERS._entries, NOISY, entry)
    yield NOISY


def test_a_component_that_draws_from_global_generators_is_fixed_by_the_seed(tiny: Tiny, noisy: str) -> None:
    see_one_training(lambda: build_trainer(experiment(tiny, distiller=noisy)))
    first, other = (build_trainer(experiment(tiny, distiller=noisy, seed=seed)) for seed in (1, 2))
    assert not torch.equal(first.distiller.first, other.distiller.first)
    first.epoch()
    drawn = first.distiller.drawn.clone()
    first.epoch()
    assert (drawn != first.distiller.drawn).all()


def test_arms_with_dropout_stay_paired_beside_losses_that_draw_numbers(tiny: Tiny, noisy: str) -> None:
    """A distiller's and a review's draws leave the student's as they are: with no weight they change no bit."""
    arms: list[dict[str, Any]] = [
        {"review": None},
        {"review": None, "distiller": noisy},
        {"review": {"lambda": 0.0}},
        {"review": None, "evaluation": {"test": "every_epoch"}},
    ]
    trainers = [build_trainer(experiment(tiny, **documents.merge(DROPOUT, arm))) for arm in arms]
    for trainer in trainers:
        while not trainer.finished:
            trainer.epoch()
    wanted = tensors(trainers[0].student.state_dict())
    for trainer in trainers[1:]:
        assert all(map(torch.equal, tensors(trainer.student.state_dict()), wanted))


def test_epochs_of_a_seed_and_seeds_of_an_epoch_draw_other_numbers(tiny: Tiny) -> None:
    drawn = []

    def look(module: nn.Module, images: tuple[Tensor, ...], output: Tensor) -> None:
        if module.training:
            drawn.append(torch.random.get_rng_state())

    for seed in (1, 2):
        trainer = build_trainer(experiment(tiny, student=DRAWING["torchvision dropout"], review=None, seed=seed))
        trainer.student.register_forward_hook(look)
        trainer.epoch(), trainer.epoch()
    assert len(drawn) == 2 * 2 * 2
    assert len({tuple(state.tolist()) for state in drawn}) == len(drawn)


def test_global_generators_are_left_as_they_were(tiny: Tiny) -> None:
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    trainer = build_trainer(experiment(tiny, distiller="crd", **DROPOUT))
    trainer.epoch(), trainer.epoch()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_global_generators_are_left_as_they_were_by_a_training_that_breaks(tiny: Tiny) -> None:
    trainer = build_trainer(experiment(tiny, review=None))

    def breaks(*_: Any) -> None:
        torch.rand(1)
        raise MemoryError

    trainer.student.register_forward_hook(breaks)
    before, exact = torch.random.get_rng_state(), torch.backends.cudnn.deterministic
    with pytest.raises(MemoryError):
        trainer.epoch()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.backends.cudnn.deterministic == exact
