"""KD of z-scores against its formula, written out in float64, in value and gradient; what does not change it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers.logit_standardization import standardized
from tskd_tune.errors import InputError

CLASSES, SAMPLES = 5, 6
BATCH = Batch(torch.zeros(SAMPLES, 1, 2, 2), torch.arange(SAMPLES) % CLASSES, torch.arange(SAMPLES))


def logits(seed: int, scale: float = 2.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (1.0 + scale * torch.randn(SAMPLES, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


STUDENT, TEACHER = logits(0), logits(1).detach()


def loss(student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    distiller = distillers.build("logit_standardization", **options)
    outputs = Classified(student, {}, {}, student), Classified(teacher, {}, {}, teacher)
    return distiller(*outputs, BATCH)["logit_standardization"]


def z_scores(row: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / (len(row) - 1))
    return [(value - mean) / (deviation + 1e-7) for value in row]


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def expected(student: list[list[float]], teacher: list[list[float]], temperature: float, weight: float) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        q, p = softmax(z_scores(s), temperature), softmax(z_scores(t), temperature)
        total += sum(wanted * math.log(wanted / given) for wanted, given in zip(p, q, strict=True))
    return weight * temperature**2 * total / len(student)


@pytest.mark.parametrize(("temperature", "weight"), [(2.0, 9.0), (1.0, 1.0), (3.0, 0.5)])
def test_the_loss_is_kd_of_z_scores_in_value_and_gradient(temperature: float, weight: float) -> None:
    found = loss(STUDENT, TEACHER, temperature=temperature, weight=weight)
    s, t = STUDENT.tolist(), TEACHER.tolist()
    assert float(found.detach()) == pytest.approx(expected(s, t, temperature, weight), rel=1e-12)
    gradient, h = torch.autograd.grad(found, STUDENT)[0], 1e-5
    for b in range(SAMPLES):
        for c in range(CLASSES):
            at = s[b][c]
            sides = []
            for s[b][c] in (at + h, at - h):
                sides.append(expected(s, t, temperature, weight))
            s[b][c] = at
            assert float(gradient[b, c]) == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("shift", "scale"), [(7.0, 1.0), (0.0, 5.0), (-3.0, 0.3)])
def test_neither_a_shift_nor_a_positive_scale_of_either_networks_logits_changes_the_loss(
    shift: float, scale: float
) -> None:
    plain = loss(STUDENT, TEACHER)
    torch.testing.assert_close(loss(scale * STUDENT + shift, TEACHER), plain, rtol=1e-6, atol=0)
    torch.testing.assert_close(loss(STUDENT, scale * TEACHER + shift), plain, rtol=1e-6, atol=0)


def test_a_negative_scale_does() -> None:
    assert float(loss(-TEACHER, TEACHER)) > 1.0


def test_the_gradient_neither_shifts_nor_scales_the_students_logits() -> None:
    gradient = torch.autograd.grad(loss(STUDENT, TEACHER), STUDENT)[0]
    values = STUDENT.detach()
    spread = values - values.mean(1, keepdim=True)
    assert float(gradient.sum(1).abs().max()) < 1e-12
    assert float((gradient * spread).sum(1).abs().max()) < 1e-6 < 1e-2 < float(gradient.abs().max())


def test_the_loss_and_its_gradient_vanish_where_logits_are_related_alike() -> None:
    related = (0.2 * TEACHER - 4.0).requires_grad_()
    found = loss(related, TEACHER)
    assert float(found.detach()) == pytest.approx(0.0, abs=1e-10)
    assert float(torch.autograd.grad(found, related)[0].abs().max()) < 1e-5


def test_equal_logits_have_z_scores_of_zero_and_a_finite_gradient() -> None:
    flat = torch.full((SAMPLES, CLASSES), 0.5, requires_grad=True)
    assert bool((standardized(flat) == 0).all())
    gradient = torch.autograd.grad(loss(flat, TEACHER.float()), flat)[0]
    assert bool(gradient.isfinite().all())


def test_the_published_weights() -> None:
    distiller = distillers.build("logit_standardization")
    assert (distiller.temperature, distiller.weight, distiller.task_weight) == (2.0, 9.0, 0.1)
    assert distillers.build("logit_standardization", task_weight=1.0).task_weight == 1.0


def test_two_classes_are_refused() -> None:
    shapes = Shapes((2,), {}, {}, (4,))
    with pytest.raises(InputError, match="'logit_standardization' needs at least 3 classes, but the task has 2"):
        distillers.build("logit_standardization", Probe(shapes, shapes, 2, torch.tensor([0, 1])))
