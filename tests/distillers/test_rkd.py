"""RKD against its formula, written out in float64, in value and gradient, and where samples coincide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified

BATCH = Batch(torch.zeros(5, 1, 1, 1), torch.zeros(5, dtype=torch.long), torch.arange(5))


def embedding(seed: int, width: int = 4, samples: int = 5) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(samples, width, generator=source, dtype=torch.float64).requires_grad_()


def output(vectors: Tensor) -> Classified:
    return Classified(vectors[:, :1], {}, {}, vectors)


def loss_of(student: Tensor, teacher: Tensor, **options: float) -> Tensor:
    return distillers.build("rkd", **options)(output(student), output(teacher), BATCH)["rkd"]


def huber(gap: Tensor) -> Tensor:
    size = gap.abs()
    return 0.5 * size**2 if float(size.detach()) < 1 else size - 0.5


def length(vector: Tensor) -> Tensor:
    return vector.dot(vector).sqrt()


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]

    def relative(vectors: Tensor) -> list[Tensor]:
        distances = [length(vectors[i] - vectors[j]) for i, j in pairs]
        return [distance * len(pairs) / sum(distances) for distance in distances]

    # A sample's distance from itself is zero to both and counts in the mean.
    return sum(map(huber, map(torch.sub, relative(student), relative(teacher)))) / 5**2  # type: ignore[return-value]


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    triples = [(i, j, k) for i in range(5) for j in range(5) for k in range(5) if i not in (j, k)]

    def cosine(vectors: Tensor, i: int, j: int, k: int) -> Tensor:
        first, second = vectors[j] - vectors[i], vectors[k] - vectors[i]
        return first.dot(second) / (length(first) * length(second))

    gaps = [cosine(student, *triple) - cosine(teacher, *triple) for triple in triples]
    return sum(map(huber, gaps)) / 5**3  # type: ignore[return-value]


@pytest.mark.parametrize(("distance", "angle"), [(2.0, 0.0), (0.0, 3.0), (25.0, 50.0)])
def test_it_is_the_sum_of_its_two_losses_in_value_and_gradient(distance: float, angle: float) -> None:
    student, teacher = embedding(0), embedding(1, width=3).detach()
    loss = loss_of(student * 9, teacher, distance=distance, angle=angle, weight=0.3)
    expected = 0.3 * (distance * distance_loss(student, teacher) + angle * angle_loss(student, teacher))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found, wanted = torch.autograd.grad(loss, student)[0], torch.autograd.grad(expected, student)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)


def test_its_weights_are_repdistillers_unless_set() -> None:
    student, teacher = embedding(0), embedding(1)
    expected = loss_of(student, teacher, distance=25.0, angle=50.0, weight=1.0)
    assert torch.equal(loss_of(student, teacher), expected)


def test_large_gaps_count_linearly() -> None:
    # One far sample of six: its relative distances are 3, those among the others are almost zero.
    student = torch.eye(6, dtype=torch.float64)[:, :1] * 1e9 + 1e-3 * embedding(0, width=1, samples=6).detach()
    teacher = torch.eye(6, dtype=torch.float64)
    found = float(loss_of(student, teacher, distance=1.0, angle=0.0))
    assert found == pytest.approx((10 * (2 - 0.5) + 20 * 0.5) / 36, rel=1e-6)


@pytest.mark.parametrize("moved", ["student", "teacher"])
def test_rotation_shift_and_positive_scale_of_either_embedding_do_not_matter(moved: str) -> None:
    given = {"student": embedding(0), "teacher": embedding(1)}
    plain = loss_of(**given)
    rotation = torch.linalg.qr(embedding(2, samples=4).detach()).Q
    for change in (lambda e: e @ rotation, lambda e: e + 3.0, lambda e: e * 20.0):
        torch.testing.assert_close(loss_of(**{**given, moved: change(given[moved])}), plain, rtol=1e-11, atol=0)


def test_it_vanishes_with_its_gradient_where_the_embeddings_are_equal() -> None:
    student = embedding(0)
    loss = loss_of(student, student.detach())
    assert float(loss.detach()) == 0.0
    assert float(torch.autograd.grad(loss, student)[0].abs().max()) == 0.0
    assert float(loss_of(student, embedding(1)).detach()) > 1.0


def doubled(seed: int) -> Tensor:
    """Five samples of which the first two are one."""
    return embedding(seed).detach()[[0, 0, 2, 3, 4]].requires_grad_()


def collapsed(seed: int) -> Tensor:
    """Five samples in one place."""
    return embedding(seed).detach()[[0] * 5].requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("student", [embedding, doubled, collapsed])
@pytest.mark.parametrize("teacher", [embedding, doubled, collapsed])
def test_samples_in_one_place_leave_value_and_gradient_moderate(student, teacher, dtype: torch.dtype) -> None:
    given = student(0).detach().to(dtype).requires_grad_()
    loss = loss_of(given, teacher(1).detach().to(dtype))
    (gradient,) = torch.autograd.grad(loss, given)
    assert loss.isfinite() and float(gradient.abs().max()) < 100
    if student is not collapsed:
        assert float(gradient.abs().max()) > 0.01


def test_samples_in_one_place_have_distance_zero_and_no_angle() -> None:
    student, teacher = doubled(0), embedding(1).detach()
    loss = loss_of(student, teacher, distance=0.0, angle=1.0)
    apart = [(i, j, k) for i in range(5) for j in range(5) for k in range(5) if i not in (j, k)]
    expected = 0.0
    for i, j, k in apart:
        first, second = student[j] - student[i], student[k] - student[i]
        lengths = float(length(first).detach() * length(second).detach())
        cosine = float(first.dot(second).detach()) / lengths if lengths else 0.0
        a, b = teacher[j] - teacher[i], teacher[k] - teacher[i]
        expected += float(huber(cosine - a.dot(b) / (length(a) * length(b)))) / 5**3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("samples", [1, 2])
def test_one_or_two_samples_have_no_relations_to_teach(samples: int) -> None:
    student = embedding(0, samples=samples)
    loss = loss_of(student, embedding(1, samples=samples).detach())
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(torch.autograd.grad(loss, student)[0].abs().max()) < 1e-12


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = embedding(0).bfloat16(), embedding(1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(student, teacher)
    assert loss.dtype == torch.float32 and torch.equal(loss, loss_of(student.float(), teacher.float()))


def test_small_distances_far_from_the_origin_are_told_apart_in_float32() -> None:
    # Inner products of about 1e6 would drown squared distances of about 1e-2.
    student, teacher = embedding(0).detach() * 0.1, embedding(1).detach()
    far = (student + 1000).float()
    assert float(loss_of(far, teacher.float())) == pytest.approx(float(loss_of(far.double(), teacher)), rel=1e-4)
