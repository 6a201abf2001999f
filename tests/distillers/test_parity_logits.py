"""The distillers of logits against torchdistill's losses, on the same tensors: an implementation by other hands."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchdistill.losses.mid_level import KDLoss, LogitStdKDLoss, SKDInstanceLoss

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers import Distiller

CLASSES, SAMPLES = 10, 16
TARGETS = torch.arange(SAMPLES) % CLASSES


def drawn(seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (3.0 * torch.randn(SAMPLES, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


STUDENT, TEACHER = drawn(0), drawn(1).detach()


def ours(distiller: Distiller, name: str) -> Tensor:
    batch = Batch(torch.zeros(SAMPLES, 1, 2, 2), TARGETS, torch.arange(SAMPLES))
    return distiller(Classified(STUDENT, {}, {}, STUDENT), Classified(TEACHER, {}, {}, TEACHER), batch)[name]


def theirs(kind: type[nn.Module], **options: Any) -> Tensor:
    loss = kind("logits", "output", "logits", "output", **options)
    found: Tensor = loss({"logits": {"output": STUDENT}}, {"logits": {"output": TEACHER}}, TARGETS)
    return found


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, STUDENT)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.1), (1.0, 0.5), (20.0, 0.9)])
def test_kd_with_the_tasks_own_loss(temperature: float, alpha: float) -> None:
    kd = distillers.build("kd", temperature=temperature, weight=1 - alpha, task_weight=alpha)
    task = kd.task_weight * functional.cross_entropy(STUDENT, TARGETS)
    assert_same(task + ours(kd, "kd"), theirs(KDLoss, temperature=temperature, alpha=alpha))


@pytest.mark.parametrize(("temperature", "alpha", "beta"), [(2.0, 0.1, 9.0), (3.0, 1.0, 1.0)])
def test_logit_standardization_with_the_tasks_own_loss(temperature: float, alpha: float, beta: float) -> None:
    options = {"temperature": temperature, "weight": beta, "task_weight": alpha}
    distiller = distillers.build("logit_standardization", **options)
    task = distiller.task_weight * functional.cross_entropy(STUDENT, TARGETS)
    wanted = theirs(LogitStdKDLoss, temperature=temperature, alpha=alpha, beta=beta)
    assert_same(task + ours(distiller, "logit_standardization"), wanted)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_instance_level_with_its_mask(temperature: float) -> None:
    options = {"temperatures": [temperature], "mask": "select", "instance_weight": 1.0}
    found = ours(distillers.build("multi_level", **options), "instance")
    assert_same(found, theirs(SKDInstanceLoss, temperature=temperature, mode="code"))


def test_the_instance_level_without_a_mask() -> None:
    options = {"temperatures": [4.0], "mask": "off", "instance_weight": 1.0}
    found = ours(distillers.build("multi_level", **options), "instance")
    # torchdistill's reading of the paper leaves the factor T^2 out.
    assert_same(found, 4.0**2 * theirs(SKDInstanceLoss, temperature=4.0, mode="paper"))
