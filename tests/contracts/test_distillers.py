"""What every registered distiller promises, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tskd_tune import networks
from tskd_tune.contracts import Batch, Output, Probe
from tskd_tune.distillers import DISTILLERS, Distiller, Need
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
CLASSES, SAMPLES = 5, 12
every_distiller = pytest.mark.parametrize("name", DISTILLERS.names())
# What has no default.
REQUIRED: dict[str, dict[str, Any]] = {"combined": {"parts": {"kd": "kd", "hint": {"name": "at", "power": 1}}}}
# A teacher of the same family, one of other widths whose features are signed, and one that sees larger images.
PAIRS = {"deeper": ("resnet14", 8), "wider": ("wrn_16_2", 8), "sharper": ("resnet8x4", 16)}


def setting(name: str, pair: str = "deeper") -> tuple[Distiller, Output, Output, Batch]:
    torch.manual_seed(0)
    kind, size = PAIRS[pair]
    student, teacher = networks.build("resnet8", CLASSES), networks.build(kind, CLASSES)
    targets = torch.arange(SAMPLES) % CLASSES
    probe = Probe(student.probe(3, 8), teacher.probe(3, size), CLASSES, targets, teacher.stage_norms())
    distiller = DISTILLERS.build(name, probe, **REQUIRED.get(name, {}))
    distiller.begin_epoch(1, torch.Generator().manual_seed(0))
    indices = torch.tensor([1, 4, 7, 9])
    batch = Batch(torch.randn(4, 3, 8, 8), targets[indices], indices)
    with torch.set_grad_enabled(Need.TRAINABLE_TEACHER in distiller.needs):
        taught = teacher(torch.randn(4, 3, size, size))
    return distiller, student(batch.images), taught, batch


@every_distiller
@pytest.mark.parametrize("pair", PAIRS)
def test_losses_are_finite_scalars_with_a_gradient_on_the_student(name: str, pair: str) -> None:
    distiller, student, teacher, batch = setting(name, pair)
    losses = distiller(student, teacher, batch)
    assert bool(losses) == bool(distiller.needs)
    for loss in losses.values():
        assert loss.shape == () and torch.isfinite(loss) and loss.requires_grad


@every_distiller
def test_every_parameter_of_its_own_is_trained(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    parameters = list(distiller.parameters())
    losses = distiller(student, teacher, batch)
    if parameters:
        sum(losses.values(), torch.zeros(())).backward()
        assert all(parameter.grad is not None for parameter in parameters)


@every_distiller
def test_its_state_round_trips(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    distiller(student, teacher, batch)
    again = setting(name)[0]
    again.load_state_dict(distiller.state_dict())
    distiller.begin_epoch(2, torch.Generator().manual_seed(1))
    again.begin_epoch(2, torch.Generator().manual_seed(1))
    first, second = distiller(student, teacher, batch), again(student, teacher, batch)
    assert all(torch.equal(first[key], second[key]) for key in first)


@every_distiller
def test_it_is_described(name: str) -> None:
    (entry,) = [entry for entry in DISTILLERS.describe() if entry["name"] == name]
    assert entry["source"] and set(entry["needs"]) <= {need.value for need in Need}


def training(tiny: Tiny, name: str, **over: Any) -> Trainer:
    weights = "untrained" if Need.TRAINABLE_TEACHER in DISTILLERS.entry(name).factory.needs else "auto"
    options = {"name": name, **REQUIRED.get(name, {})}
    return build_trainer(tiny(distiller=options, teacher={"weights": weights}, **over))


def tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state.clone()]
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for value in inner for tensor in tensors(value)]


@every_distiller
@pytest.mark.parametrize("review", [None, {"k": 2, "delta": 1}], ids=["alone", "reviewing"])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(tiny: Tiny, name: str, review: dict[str, int] | None) -> None:
    whole, first, second = (training(tiny, name, review=review, training={"epochs": 3}) for _ in range(3))
    optimized = {id(p) for optimizer in first.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert all(id(parameter) in optimized for parameter in first.distiller.parameters())
    before = tensors(first.teacher.state_dict()) if first.teacher is not None else []
    for _ in range(2):
        first.epoch()
    second.load_state_dict(first.state_dict())
    second.epoch()
    while not whole.finished:
        whole.epoch()
    found, wanted = tensors(second.state_dict()), tensors(whole.state_dict())
    assert len(found) == len(wanted) and all(map(torch.equal, found, wanted))
    losses = {key for key in whole.history[-1] if key.startswith("loss_")}
    assert {key: second.history[-1][key] for key in losses} == {key: whole.history[-1][key] for key in losses}
    assert ("loss_review" in losses) == (review is not None)
    after = tensors(first.teacher.state_dict()) if first.teacher is not None else []
    learns = Need.TRAINABLE_TEACHER in first.distiller.needs
    assert all(map(torch.equal, before, after)) != learns
