"""DKD against its formula, written out in float64, in value and gradient; its identity with KD; its warm-up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.errors import InputError

CLASSES, SAMPLES = 5, 12
TARGETS = torch.arange(SAMPLES) % CLASSES
RANDOM = torch.Generator()


def batch(targets: Tensor = TARGETS) -> Batch:
    return Batch(torch.zeros(len(targets), 1, 2, 2), targets, torch.arange(len(targets)))


def logits(seed: int, scale: float = 2.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(SAMPLES, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


def output(values: Tensor) -> Classified:
    return Classified(values, {}, {}, values)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def parts(s: list[float], t: list[float], y: int, temperature: float) -> tuple[float, float]:
    q, p = softmax(s, temperature), softmax(t, temperature)
    tckd = p[y] * math.log(p[y] / q[y]) + (1 - p[y]) * math.log((1 - p[y]) / (1 - q[y]))
    others = [(p[c] / (1 - p[y]), q[c] / (1 - q[y])) for c in range(len(p)) if c != y]
    return tckd, sum(wanted * math.log(wanted / given) for wanted, given in others)


def expected(student: list[list[float]], teacher: list[list[float]], alpha: float, beta: float, t: float) -> float:
    total = 0.0
    for s, row, y in zip(student, teacher, TARGETS.tolist(), strict=True):
        tckd, nckd = parts(s, row, y, t)
        total += t**2 * (alpha * tckd + beta * nckd) / len(student)
    return total


STUDENT, TEACHER = logits(0), logits(1).detach()


@pytest.mark.parametrize(("alpha", "beta", "t"), [(1.0, 8.0, 4.0), (0.0, 1.0, 1.0), (1.0, 0.0, 2.0), (0.5, 2.0, 3.0)])
def test_the_loss_is_the_weighted_sum_of_its_parts_in_value_and_gradient(alpha: float, beta: float, t: float) -> None:
    dkd = distillers.build("dkd", alpha=alpha, beta=beta, temperature=t, warmup=0)
    loss = dkd(output(STUDENT), output(TEACHER), batch())["dkd"]
    s, teacher = STUDENT.tolist(), TEACHER.tolist()
    assert float(loss.detach()) == pytest.approx(expected(s, teacher, alpha, beta, t), rel=1e-12)
    gradient, h = torch.autograd.grad(loss, STUDENT)[0], 1e-5
    for b in range(SAMPLES):
        for c in range(CLASSES):
            at = s[b][c]
            sides = []
            for s[b][c] in (at + h, at - h):
                sides.append(expected(s, teacher, alpha, beta, t))
            s[b][c] = at
            assert float(gradient[b, c]) == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("sample", range(4))
def test_with_the_teachers_doubt_for_beta_one_sample_is_distilled_as_by_kd(sample: int) -> None:
    one = slice(sample, sample + 1)
    doubt = 1 - softmax(TEACHER[sample].tolist(), 4.0)[int(TARGETS[sample])]
    pair = output(STUDENT[one]), output(TEACHER[one])
    found = distillers.build("dkd", alpha=1.0, beta=doubt, warmup=0)(*pair, batch(TARGETS[one]))["dkd"]
    wanted = distillers.build("kd", weight=1.0)(*pair, batch(TARGETS[one]))["kd"]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(loss, STUDENT)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-13)


def test_the_loss_and_its_gradient_vanish_where_the_student_says_what_the_teacher_says() -> None:
    same = TEACHER.clone().requires_grad_()
    loss = distillers.build("dkd")(output(same), output(TEACHER), batch())["dkd"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(torch.autograd.grad(loss, same)[0].abs().max()) < 1e-12


def test_the_targets_logit_has_no_part_in_how_the_others_share() -> None:
    moved = STUDENT.detach() + 3.0 * torch.nn.functional.one_hot(TARGETS, CLASSES)
    only_others = distillers.build("dkd", alpha=0.0)
    losses = [only_others(output(values), output(TEACHER), batch())["dkd"] for values in (STUDENT, moved)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


def test_a_probability_that_rounds_to_zero_does_no_harm() -> None:
    # In float32 the softmax of these is exactly 0 and 1, and the logarithm of a masked probability minus infinity.
    student = torch.tensor([[0.0, 400.0, 1.0], [300.0, 0.0, 5.0]], requires_grad=True)
    teacher = torch.tensor([[500.0, 0.0, 2.0], [0.0, 0.0, 600.0]])
    targets = torch.tensor([0, 0])
    dkd = distillers.build("dkd", temperature=1.0, warmup=0)
    loss = dkd(output(student), output(teacher), batch(targets))["dkd"]
    # Sample 0: log p_s(target) is -400 and the teacher is sure of it; the others share (1, e^-2) against (1, e^-399).
    p = 1 / (1 + math.exp(2.0))
    first = 400.0 + 8.0 * ((1 - p) * (math.log(1 - p) + 399.0) + p * math.log(p))
    # Sample 1: log of what the student leaves to the others is -295; they share (0, 1) against (e^-5, 1).
    second = 295.0 - math.log1p(math.exp(-5.0)) + 8.0 * math.log1p(math.exp(-5.0))
    assert float(loss.detach()) == pytest.approx((first + second) / 2, rel=1e-6)
    gradient = torch.autograd.grad(loss, student)[0]
    assert bool(gradient.isfinite().all()) and bool((gradient != 0).any(1).all())


def test_the_warm_up_rises_by_equal_steps_from_the_first_epoch() -> None:
    dkd = distillers.build("dkd")
    whole = float(distillers.build("dkd", warmup=0)(output(STUDENT), output(TEACHER), batch())["dkd"].detach())

    def share(epoch: int | None) -> float:
        if epoch is not None:
            dkd.begin_epoch(epoch, RANDOM)
        return float(dkd(output(STUDENT), output(TEACHER), batch())["dkd"].detach()) / whole

    # mdistiller's epoch e, counted from 1, has min(e / 20, 1); here it is epoch e - 1.
    for epoch, wanted in [(None, 0.05), (0, 0.05), (1, 0.1), (9, 0.5), (18, 0.95), (19, 1.0), (20, 1.0), (239, 1.0)]:
        assert share(epoch) == pytest.approx(wanted, rel=1e-12)
    assert share(3) == pytest.approx(0.2, rel=1e-12)  # a resume in the warm-up goes on where it was


@pytest.mark.parametrize(("warmup", "epoch", "wanted"), [(0, 0, 1.0), (1, 0, 1.0), (4, 0, 0.25), (4, 2, 0.75)])
def test_a_warm_up_of_another_length(warmup: int, epoch: int, wanted: float) -> None:
    dkd = distillers.build("dkd", warmup=warmup)
    dkd.begin_epoch(epoch, RANDOM)
    found = dkd(output(STUDENT), output(TEACHER), batch())["dkd"]
    whole = expected(STUDENT.tolist(), TEACHER.tolist(), 1.0, 8.0, 4.0)
    assert float(found.detach()) == pytest.approx(wanted * whole, rel=1e-12)


def test_the_published_weights() -> None:
    dkd = distillers.build("dkd")
    assert (dkd.alpha, dkd.beta, dkd.temperature, dkd.warmup, dkd.task_weight) == (1.0, 8.0, 4.0, 20, 1.0)
    assert distillers.build("dkd", task_weight=0.3).task_weight == 0.3


def test_two_classes_are_refused() -> None:
    shapes = Shapes((2,), {}, {}, (4,))
    with pytest.raises(InputError, match="'dkd' needs at least 3 classes, but the task has 2: only one class remains"):
        distillers.build("dkd", Probe(shapes, shapes, 2, torch.tensor([0, 1])))
