"""What every registered distiller promises, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

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


def setting(name: str, pair: str = "deeper", **options: Any) -> tuple[Distiller, Output, Output, Batch]:
    torch.manual_seed(0)
    kind, size = PAIRS[pair]
    student, teacher = networks.build("resnet8", CLASSES), networks.build(kind, CLASSES)
    targets = torch.arange(SAMPLES) % CLASSES
    probe = Probe(student.probe(3, 8), teacher.probe(3, size), CLASSES, targets, teacher.stage_norms())
    distiller = DISTILLERS.build(name, probe, **(options or REQUIRED.get(name, {})))
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


def some(output: Output, which: slice) -> Output:
    features, preactivations = (
        {stage: map_[which] for stage, map_ in maps.items()} for maps in (output.features, output.preactivations)
    )
    return Output(output.logits[which], features, preactivations, output.embedding[which])


@every_distiller
def test_it_is_separable_if_it_says_so(name: str) -> None:
    found = []
    for which in (slice(0, 4), slice(0, 2), slice(2, 4)):
        distiller, student, teacher, batch = setting(name)
        part = Batch(batch.images[which], batch.targets[which], batch.indices[which])
        found.append(distiller(some(student, which), some(teacher, which), part))
    whole, *halves = found
    means = {key: (halves[0][key] + halves[1][key]) / 2 for key in whole}
    assert all(torch.allclose(whole[key], means[key], rtol=1e-5) for key in whole) == distiller.separable


# Options with which what changes by epoch changes within few epochs.
CHANGING: dict[str, dict[str, Any]] = {
    "dkd": {"warmup": 4},
    "review_kd": {"warmup": 4},
    "ekd": {"freeze_teacher_after": 1},
    "combined": {"parts": {"a": {"name": "dkd", "warmup": 4}, "b": {"name": "review_kd", "warmup": 4}}},
}


@every_distiller
@pytest.mark.parametrize("last", [2, 5])
def test_a_step_that_was_captured_stands_for_every_epoch_of_its_phase(name: str, last: int) -> None:
    """Trace the operations of a step in epoch 0, as a graph on a GPU does, and run them in a later epoch."""
    options = CHANGING.get(name, REQUIRED.get(name, {}))
    traced, _, _, batch = setting(name, **options)
    plain, student, teacher, _ = setting(name, **options)
    if not plain.capturable or plain.phase(0) != plain.phase(last):
        pytest.skip("steps of these epochs are captured apart, or not at all")
    for one in (traced, plain):
        one.eval()  # the statistics of batch norms would count the steps
        one.begin_epoch(0, torch.Generator().manual_seed(0))

    def step(indices: torch.Tensor) -> list[torch.Tensor]:
        losses = traced(student.detached(), teacher.detached(), Batch(batch.images, batch.targets, indices))
        return list(losses.values())

    graph = make_fx(step)(batch.indices)
    graph(batch.indices)
    for _ in range(2):
        plain(student.detached(), teacher.detached(), batch)
    for one in (traced, plain):
        one.begin_epoch(last, torch.Generator().manual_seed(1))
    expected = plain(student.detached(), teacher.detached(), batch)
    for found, wanted in zip(graph(batch.indices), expected.values(), strict=True):
        assert torch.equal(found.detach(), wanted.detach())


@pytest.mark.parametrize("name", CHANGING)
def test_a_loss_that_changes_with_the_epochs_changes_in_value_or_in_phase(name: str) -> None:
    distiller, student, teacher, batch = setting(name, **CHANGING[name])
    found = []
    for epoch in (0, 4):
        distiller.begin_epoch(epoch, torch.Generator().manual_seed(0))
        found.append(distiller(student, teacher, batch))
    assert found[0].keys() != found[1].keys() or any(found[0][key] != found[1][key] for key in found[0])
    assert (found[0].keys() != found[1].keys()) == (distiller.phase(0) != distiller.phase(4))


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
    losses = {key for key in whole.history[-1].numbers if key.startswith("loss_")}
    found, wanted = second.history[-1].numbers, whole.history[-1].numbers
    assert {key: found[key] for key in losses} == {key: wanted[key] for key in losses}
    assert ("loss_review" in losses) == (review is not None)
    after = tensors(first.teacher.state_dict()) if first.teacher is not None else []
    learns = Need.TRAINABLE_TEACHER in first.distiller.needs
    assert all(map(torch.equal, before, after)) != learns
