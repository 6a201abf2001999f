"""PKT against its formula, written out in float64, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers.pkt import EPSILON

BATCH = Batch(torch.zeros(6, 1, 1, 1), torch.zeros(6, dtype=torch.long), torch.arange(6))


def embedding(seed: int, width: int = 4, samples: int = 6) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(samples, width, generator=source, dtype=torch.float64).requires_grad_()


def output(vectors: Tensor) -> Classified:
    return Classified(vectors[:, :1], {}, {}, vectors)


def loss_of(student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    return distillers.build("pkt", **options)(output(student), output(teacher), BATCH)["pkt"]


def probability(vectors: Tensor, i: int, j: int) -> Tensor:
    def nearness(first: Tensor, second: Tensor) -> Tensor:
        lengths = (first.dot(first).sqrt() + EPSILON) * (second.dot(second).sqrt() + EPSILON)
        return (first.dot(second) / lengths + 1) / 2

    return nearness(vectors[i], vectors[j]) / sum(nearness(vectors[i], other) for other in vectors)


def test_it_is_the_divergence_of_neighborhoods_in_value_and_gradient() -> None:
    student, teacher = embedding(0), embedding(1, width=3)
    loss = loss_of(student, teacher.detach(), weight=7.0)
    expected = torch.zeros((), dtype=torch.float64)
    for i in range(6):
        for j in range(6):
            p, q = probability(teacher.detach(), i, j), probability(student, i, j)
            expected = expected + 7.0 * p * torch.log((p + EPSILON) / (q + EPSILON)) / 36
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=0)
    found, wanted = torch.autograd.grad(loss, student)[0], torch.autograd.grad(expected, student)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-14)


def test_its_weight_is_repdistillers_unless_set() -> None:
    student, teacher = embedding(0), embedding(1)
    torch.testing.assert_close(loss_of(student, teacher), 30000 * loss_of(student, teacher, weight=1.0))


def test_it_vanishes_with_its_gradient_where_the_embeddings_are_equal() -> None:
    student = embedding(0)
    loss = loss_of(student, student.detach(), weight=1.0)
    assert float(loss.detach()) == 0.0
    # At the optimum only what the epsilon does to probabilities of about 1/6 is left.
    assert float(torch.autograd.grad(loss, student)[0].abs().max()) < 1e-8
    assert float(loss_of(student, embedding(1), weight=1.0).detach()) > 1e-3


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_the_scale_of_either_embedding_does_not_matter(scale: float) -> None:
    student, teacher = embedding(0), embedding(1)
    plain = loss_of(student, teacher)
    # An epsilon of 1e-7 stands beside lengths of about 2.
    torch.testing.assert_close(loss_of(student * scale, teacher), plain, rtol=1e-4, atol=0)
    torch.testing.assert_close(loss_of(student, teacher * scale), plain, rtol=1e-4, atol=0)


def test_a_rotation_does_not_matter_but_a_shift_does() -> None:
    student, teacher = embedding(0), embedding(1)
    rotation = torch.linalg.qr(embedding(2, samples=4).detach()).Q
    torch.testing.assert_close(loss_of(student @ rotation, teacher), loss_of(student, teacher), rtol=1e-10, atol=0)
    assert not torch.allclose(loss_of(student + 1, teacher), loss_of(student, teacher), rtol=0.01)


def test_dead_embeddings_and_a_batch_of_one_are_finite() -> None:
    dead = embedding(0).detach() * torch.tensor([1.0, 0, 1, 0, 1, 1]).unsqueeze(1)
    dead.requires_grad_()
    loss = loss_of(dead, embedding(1))
    assert loss.isfinite() and torch.autograd.grad(loss, dead)[0].isfinite().all()
    alone = embedding(0, samples=1)
    loss = loss_of(alone, embedding(1, samples=1))
    assert float(loss.detach()) == 0.0 and float(torch.autograd.grad(loss, alone)[0].abs().max()) < 1e-12


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = embedding(0).bfloat16(), embedding(1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(student, teacher)
    assert loss.dtype == torch.float32 and torch.equal(loss, loss_of(student.float(), teacher.float()))
