"""The three levels of logit distillation against their formulas, written out in float64, and their masks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified

CLASSES = 5
Rows = list[list[float]]


def logits(seed: int, samples: int, scale: float = 2.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(samples, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


def losses(student: Tensor, teacher: Tensor, **options: object) -> Mapping[str, Tensor]:
    batch = Batch(torch.zeros(len(student), 1, 2, 2), torch.arange(len(student)) % CLASSES, torch.arange(len(student)))
    outputs = Classified(student, {}, {}, student), Classified(teacher, {}, {}, teacher)
    return distillers.build("multi_level", **options)(*outputs, batch)


def softened(rows: Rows, temperature: float) -> Rows:
    powers = [[math.exp(value / temperature) for value in row] for row in rows]
    return [[power / sum(row) for power in row] for row in powers]


def products(rows: Rows) -> Rows:
    return [[sum(a * b for a, b in zip(one, other, strict=True)) for other in rows] for one in rows]


def transposed(rows: Rows) -> Rows:
    return [list(column) for column in zip(*rows, strict=True)]


def row_gaps(given: Rows, wanted: Rows) -> list[float]:
    pairs = zip(products(given), products(wanted), strict=True)
    return [sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for one, other in pairs]


def terms(student: Rows, teacher: Rows, temperature: float) -> dict[str, list[float]]:
    q, p = softened(student, temperature), softened(teacher, temperature)
    divergences = [
        temperature**2 * sum(b * math.log(b / a) for a, b in zip(one, other, strict=True))
        for one, other in zip(q, p, strict=True)
    ]
    between_classes = row_gaps(transposed(q), transposed(p))
    return {"instance": divergences, "batch": row_gaps(q, p), "class": between_classes}


def unsure(teacher: Rows) -> dict[str, list[bool]]:
    p = softened(teacher, 1.0)
    samples, classes = [max(row) for row in p], [sum(column) for column in transposed(p)]
    of_samples = [value <= statistics.median(samples) for value in samples]
    return {"instance": of_samples, "batch": of_samples, "class": [v <= statistics.median(classes) for v in classes]}


def expected(student: Rows, teacher: Rows, temperatures: list[float], mask: str) -> dict[str, float]:
    found = dict.fromkeys(("instance", "batch", "class"), 0.0)
    chosen = unsure(teacher)
    for temperature in temperatures:
        for level, values in terms(student, teacher, temperature).items():
            kept = chosen[level]
            if mask == "select":
                found[level] += sum(v for v, keep in zip(values, kept, strict=True) if keep) / len(values)
            else:
                found[level] += sum(values) / len(values) * (sum(kept) / len(kept) if mask == "share" else 1.0)
    return found


PUBLISHED = [2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize("samples", [6, 7])
@pytest.mark.parametrize("mask", ["share", "select", "off"])
@pytest.mark.parametrize("temperatures", [PUBLISHED, [1.0]])
def test_every_level_is_what_its_formula_says(samples: int, mask: str, temperatures: list[float]) -> None:
    student, teacher = logits(0, samples), logits(1, samples).detach()
    found = losses(student, teacher, mask=mask, temperatures=temperatures)
    wanted = expected(student.tolist(), teacher.tolist(), temperatures, mask)
    assert list(found) == ["instance", "batch", "class"]
    for level, value in wanted.items():
        assert float(found[level].detach()) == pytest.approx(0.9 * value, rel=1e-12)


@pytest.mark.parametrize("mask", ["share", "select"])
@pytest.mark.parametrize("level", ["instance", "batch", "class"])
def test_the_gradient_of_every_level(level: str, mask: str) -> None:
    student, teacher = logits(0, 4), logits(1, 4).detach()
    found = torch.autograd.grad(losses(student, teacher, mask=mask, temperatures=[2.0])[level], student)[0]
    s, t, h = student.tolist(), teacher.tolist(), 1e-5
    for b in range(4):
        for c in range(CLASSES):
            at = s[b][c]
            sides = []
            for s[b][c] in (at + h, at - h):
                sides.append(0.9 * expected(s, t, [2.0], mask)[level])
            s[b][c] = at
            assert float(found[b, c]) == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-8)


def test_every_loss_and_its_gradient_vanish_where_the_student_says_what_the_teacher_says() -> None:
    same = logits(1, 6)
    for loss in losses(same, same.detach().clone()).values():
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
        assert float(torch.autograd.grad(loss, same, retain_graph=True)[0].abs().max()) < 1e-12


def test_confidence_is_the_teachers_alone() -> None:
    # With the teacher sure of half its samples, and the student wrong about these alone, selection leaves nothing.
    teacher = torch.zeros(4, CLASSES, dtype=torch.float64)
    teacher[:2, 0] = 9.0
    student = teacher.clone()
    student[:2] = 0.0
    selected = losses(student.requires_grad_(), teacher, mask="select")
    assert float(selected["instance"].detach()) == 0.0
    assert float(losses(student, teacher, mask="off")["instance"].detach()) > 1.0


def test_the_order_of_samples_and_of_classes_does_not_matter() -> None:
    student, teacher = logits(0, 6), logits(1, 6)
    rows, columns = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 4, 0, 1, 3])
    for mask in ("share", "select"):
        plain = losses(student, teacher, mask=mask)
        shuffled = losses(student[rows][:, columns], teacher[rows][:, columns], mask=mask)
        for level, loss in plain.items():
            torch.testing.assert_close(shuffled[level], loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", ["instance", "batch", "class"])
def test_a_weight_is_of_its_level_alone(level: str) -> None:
    student, teacher = logits(0, 6), logits(1, 6)
    plain, weighted = losses(student, teacher), losses(student, teacher, **{f"{level}_weight": 0.3})
    for name, loss in plain.items():
        factor = 1 / 3 if name == level else 1.0
        torch.testing.assert_close(weighted[name], factor * loss, rtol=1e-12, atol=0)


def test_the_published_options() -> None:
    published = distillers.DISTILLERS.options("multi_level")(name="multi_level").plain()
    weights = {"instance_weight": 0.9, "batch_weight": 0.9, "class_weight": 0.9, "task_weight": 0.1}
    assert published == {"name": "multi_level", "temperatures": PUBLISHED, "mask": "share", **weights}
    assert distillers.build("multi_level").task_weight == 0.1
    assert distillers.build("multi_level", task_weight=1.0).task_weight == 1.0


def test_no_temperature_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        distillers.build("multi_level", temperatures=[])
    with pytest.raises(ValidationError, match="greater than 0"):
        distillers.build("multi_level", temperatures=[4.0, 0.0])
