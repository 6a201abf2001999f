"""The learning rate is a pure function of the epoch."""

from __future__ import annotations

import importlib
import io
from typing import Any

import pytest
import torch

from tskd_tune.training import optim
from tskd_tune.training.milestones import scaled_milestones
from tskd_tune.training.optimizers import OPTIMIZERS
from tskd_tune.training.rates import RATE_SCHEDULES, Drops
from tskd_tune.training.recipe import Recipe

ADAM = importlib.import_module("torch.optim.adam")  # the package hides its modules

CLOSE = {"descent": 1e-6, "adam": 1e-3}  # capturable Adam corrects its bias in float32


def recipe(convention: str = "at") -> Recipe:
    drops = Drops([150, 180, 210], 0.1, convention)  # type: ignore[arg-type]
    return Recipe(
        lr=0.1,
        epochs=240,
        schedule=RATE_SCHEDULES.build("steps", drops),
        warmup=None,
        by_step=False,
        made_by=OPTIMIZERS.default("sgd")(),
        momentum=0.9,
        nesterov=False,
        weight_decay=5e-4,
    )


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (149, 0.1), (150, 0.01), (179, 0.01), (180, 0.001), (210, 0.0001), (239, 0.0001)]
)
def test_a_milestone_is_the_first_epoch_at_the_lower_rate(epoch: int, rate: float) -> None:
    assert recipe().rate(epoch) == pytest.approx(rate, rel=1e-12)


def test_the_authors_code_keeps_the_higher_rate_through_the_milestone() -> None:
    assert recipe("after").rate(150) == pytest.approx(0.1)
    assert recipe("after").rate(151) == pytest.approx(0.01)


def test_milestones_scale_with_the_length_of_training() -> None:
    assert scaled_milestones(240) == [150, 180, 210]
    assert scaled_milestones(16) == [10, 12, 14]
    assert scaled_milestones(1) == []


def test_the_optimizer_is_the_papers_and_skips_empty_groups() -> None:
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = recipe().optimizer([[weight], []])
    momentum = torch.zeros(2, dtype=torch.float64)
    expected = weight.detach().clone()
    for gradient in (torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.0]).double()):
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + gradient + 5e-4 * expected
        expected = expected - 0.1 * momentum
    assert len(optimizer.param_groups) == 1
    assert torch.allclose(weight.detach(), expected, rtol=0, atol=1e-15)


# The optimizers of a GPU, on this machine: torch runs fused descent on a CPU too.
@pytest.fixture
def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "in_tensors", lambda device: True)
    monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda **_: ["cpu"])


def weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3, generator=generator).double()) for _ in range(3)]


def made(kind: str) -> tuple[torch.optim.Optimizer, list[torch.nn.Parameter]]:
    of = weights()
    if kind == "adam":
        return optim.adam(of, 0.05, 0.01, optim.CPU), of
    return recipe().optimizer([of[:2], of[2:]]), of


def go(optimizer: torch.optim.Optimizer, of: list[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        optim.set_share(optimizer, 0.1 if step > 3 else 1.0)
        for number, weight in enumerate(of):
            # The last weight has no gradient in the first steps, as an extractor before the first review.
            weight.grad = None if number == 2 and step < 3 else torch.full_like(weight, 0.1 * step - number)
        optimizer.step()


@pytest.mark.parametrize("kind", ["descent", "adam"])
def test_the_optimizers_of_a_gpu_take_the_same_steps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, expected = made(kind)
    go(plain, expected, range(8))
    monkeypatch.setattr(optim, "in_tensors", lambda device: True)
    monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda **_: ["cpu"])
    found, weights = made(kind)
    rates = [group["lr"] for group in found.param_groups]
    go(found, weights, range(8))
    assert all(torch.allclose(one, other, rtol=CLOSE[kind]) for one, other in zip(weights, expected, strict=True))
    assert all(group["lr"] is rate for group, rate in zip(found.param_groups, rates, strict=True))
    assert all(
        float(rate) == pytest.approx(0.1 * group["first_lr"])
        for group, rate in zip(found.param_groups, rates, strict=True)
    )


@pytest.mark.parametrize("kind", ["descent", "adam"])
@pytest.mark.parametrize("first", [True, False])
def test_a_training_moves_between_a_gpu_and_a_cpu(kind: str, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, expected = made(kind)
    go(whole, expected, range(8))
    monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda **_: ["cpu"])
    monkeypatch.setattr(optim, "in_tensors", lambda device: first)
    before, moved = made(kind)
    go(before, moved, range(4))
    state = checkpointed(optim.optimizer_state(before))
    assert all(type(group["lr"]) is float for group in state["param_groups"])
    monkeypatch.setattr(optim, "in_tensors", lambda device: not first)
    after, weights = made(kind)
    with torch.no_grad():
        for new, old in zip(weights, moved, strict=True):
            new.copy_(old)
    flags = [(group.get("fused"), group.get("capturable"), type(group["lr"])) for group in after.param_groups]
    optim.load_optimizer_state(after, state)
    assert flags == [(group.get("fused"), group.get("capturable"), type(group["lr"])) for group in after.param_groups]
    go(after, weights, range(4, 8))
    assert all(torch.allclose(one, other, rtol=CLOSE[kind]) for one, other in zip(weights, expected, strict=True))


def test_fused_descent_never_takes_a_first_step(like_a_gpu: None) -> None:
    optimizer, of = made("descent")
    assert all(torch.equal(optimizer.state[weight]["momentum_buffer"], torch.zeros(3)) for weight in of)
    state = recipe().optimizer([weights()]).state_dict()
    another = recipe().optimizer([weights()])
    optim.load_optimizer_state(another, {**state, "state": {}})  # of a version or a device without momentum yet
    assert all("momentum_buffer" in another.state[weight] for weight in another.param_groups[0]["params"])


def checkpointed(state: Any) -> Any:
    content = io.BytesIO()
    torch.save(state, content)
    content.seek(0)
    return torch.load(content, weights_only=True)
