"""KD on the box head against its formula, written out in float64, in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Boxes, Detected

COUNTS = [2, 0, 3]
BATCH = Batch(torch.zeros(3, 3, 8, 8), Boxes.padded([torch.zeros(0, 4)] * 3), torch.arange(3))


def output(seed: int, counts: Sequence[int] = COUNTS) -> tuple[Detected, Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(sum(counts), 4, generator=source, dtype=torch.float64).requires_grad_()
    boxes = Boxes.padded([torch.rand(count, 4, generator=source) for count in counts])
    asked: list[Boxes] = []

    def classify(given: Boxes) -> Tensor:
        asked.append(given)
        return logits

    return Detected({}, {}, {}, boxes, boxes, classify), logits


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_the_mean_over_the_images_of_their_proposals_divergences(temperature: float) -> None:
    (student, ours), (teacher, theirs) = output(0), output(1)
    kd = distillers.build("detection_kd", temperature=temperature, weight=0.7)
    loss = kd(student, teacher, BATCH)["detection_kd"]
    expected, gradient, row = 0.0, torch.zeros_like(ours), 0
    for count in COUNTS:
        for _ in range(count):
            p = [math.exp(t / temperature) for t in theirs[row].tolist()]
            q = [math.exp(s / temperature) for s in ours[row].tolist()]
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            share = 0.7 * temperature**2 / count / len(COUNTS)
            expected += share * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            gradient[row] = torch.tensor([share / temperature * (b - a) for a, b in zip(p, q, strict=True)])
            row += 1
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, ours)[0], gradient, rtol=1e-6, atol=1e-12)


def test_its_gradient_is_that_of_its_values() -> None:
    (student, ours), (teacher, _) = output(0), output(1)

    def loss(logits: Tensor) -> Tensor:
        given = Detected({}, {}, {}, student.proposals, student.detections, lambda boxes: logits)
        found: Tensor = distillers.build("detection_kd", temperature=2.0)(given, teacher, BATCH)["detection_kd"]
        return found

    assert torch.autograd.gradcheck(loss, ours)


def test_both_classify_the_students_proposals() -> None:
    student, teacher = output(0)[0], output(1)[0]
    asked: list[Boxes] = []

    def noting(of: Detected) -> Detected:
        def classify(boxes: Boxes) -> Tensor:
            asked.append(boxes)
            return of.classify(boxes)

        return Detected({}, {}, {}, of.proposals, of.detections, classify)

    distillers.build("detection_kd")(noting(student), noting(teacher), BATCH)
    assert [boxes is student.proposals for boxes in asked] == [True, True]


def test_no_proposal_at_all_is_no_loss() -> None:
    (student, ours), (teacher, _) = output(0, [0, 0, 0]), output(1, [0, 0, 0])
    loss = distillers.build("detection_kd")(student, teacher, BATCH)["detection_kd"]
    assert float(loss.detach()) == 0.0
    assert torch.autograd.grad(loss, ours)[0].shape == (0, 4)
