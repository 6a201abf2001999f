"""KA against its formula, written out in float64, in value and gradient; what is corrected and what is left alone."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers.ka import Mode, adjusted
from tskd_tune.errors import InputError

CLASSES, SAMPLES = 5, 12
both_modes = pytest.mark.parametrize("mode", ["probability_shift", "label_smoothing"])


def logits(seed: int, scale: float = 2.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(SAMPLES, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


def output(values: Tensor) -> Classified:
    return Classified(values, {}, {}, values)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def put_right(row: list[float], target: int, mode: str, correct: float) -> list[float]:
    best = max(range(len(row)), key=row.__getitem__)
    if best == target:
        return row
    if mode == "label_smoothing":
        return [correct if c == target else (1 - correct) / (len(row) - 1) for c in range(len(row))]
    swapped = list(row)
    swapped[best], swapped[target] = row[target], row[best]
    return swapped


# A teacher that is wrong in every third sample.
TEACHER = logits(1).detach()
WRONG = torch.arange(SAMPLES) % 3 == 0
TARGETS = (TEACHER.argmax(1) + WRONG * (1 + torch.arange(SAMPLES) % 4)) % CLASSES
BATCH = Batch(torch.zeros(SAMPLES, 1, 2, 2), TARGETS, torch.arange(SAMPLES))


@both_modes
@pytest.mark.parametrize(("temperature", "correct"), [(1.0, None), (4.0, None), (3.0, 0.7)])
def test_the_loss_is_the_divergence_from_the_corrected_teacher(
    mode: Mode, temperature: float, correct: float | None
) -> None:
    student = logits(0)
    options = {"correct": correct} if mode == "label_smoothing" else {}
    ka = distillers.build("ka", mode=mode, temperature=temperature, weight=0.7, **options)
    loss = ka(output(student), output(TEACHER), BATCH)["ka"]
    expected, gradient = 0.0, torch.zeros(SAMPLES, CLASSES, dtype=torch.float64)
    for b, target in enumerate(TARGETS.tolist()):
        p = put_right(softmax(TEACHER[b].tolist(), temperature), target, mode, correct or 0.99)
        q = softmax(student[b].tolist(), temperature)
        divergence = sum(wanted * math.log(wanted / given) for wanted, given in zip(p, q, strict=True))
        expected += 0.7 * temperature**2 * divergence / SAMPLES
        shares = [0.7 * temperature * (given - wanted) / SAMPLES for wanted, given in zip(p, q, strict=True)]
        gradient[b] = torch.tensor(shares, dtype=torch.float64)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], gradient, rtol=1e-10, atol=1e-15)


@both_modes
def test_samples_that_the_teacher_gets_right_are_untouched_and_the_others_become_right(mode: Mode) -> None:
    before = TEACHER.log_softmax(1)
    after = adjusted(before, TARGETS, mode)
    assert torch.equal(after[~WRONG], before[~WRONG])
    assert (after[WRONG] != before[WRONG]).any(1).all()
    assert torch.equal(after.argmax(1), TARGETS)
    torch.testing.assert_close(after.exp().sum(1), torch.ones(SAMPLES, dtype=torch.float64), rtol=1e-12, atol=0)


@both_modes
def test_a_target_that_ties_for_the_first_place_is_right(mode: Mode) -> None:
    tied = torch.tensor([[0.4, 0.4, 0.2]], dtype=torch.float64).log()
    for target in (0, 1):
        assert torch.equal(adjusted(tied, torch.tensor([target]), mode), tied)
    assert not torch.equal(adjusted(tied, torch.tensor([2]), mode), tied)


def test_a_shift_keeps_the_multiset_of_probabilities_and_commutes_with_softening() -> None:
    before = TEACHER.log_softmax(1)
    after = adjusted(before, TARGETS, "probability_shift")
    assert torch.equal(after.sort(1).values, before.sort(1).values)
    for temperature in (0.5, 4.0, 20.0):
        softened_first = adjusted((TEACHER / temperature).log_softmax(1), TARGETS, "probability_shift")
        shifted_first = (adjusted(TEACHER, TARGETS, "probability_shift") / temperature).log_softmax(1)
        torch.testing.assert_close(softened_first, shifted_first, rtol=1e-12, atol=1e-14)


def test_label_smoothing_gives_the_target_its_share_whatever_the_temperature() -> None:
    for temperature in (1.0, 7.0):
        after = adjusted((TEACHER / temperature).log_softmax(1), TARGETS, "label_smoothing", correct=0.8)[WRONG].exp()
        expected = torch.full_like(after, 0.05).scatter(1, TARGETS[WRONG].unsqueeze(1), 0.8)
        torch.testing.assert_close(after, expected, rtol=1e-12, atol=0)


def test_the_loss_and_its_gradient_vanish_at_the_shifted_teacher_and_not_at_the_teacher() -> None:
    shifted = adjusted(TEACHER, TARGETS, "probability_shift").requires_grad_()
    ka = distillers.build("ka")
    loss = ka(output(shifted), output(TEACHER), BATCH)["ka"]
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(torch.autograd.grad(loss, shifted)[0].abs().max()) < 1e-12
    assert float(ka(output(TEACHER), output(TEACHER), BATCH)["ka"]) > 0.1


@both_modes
def test_with_a_teacher_that_is_never_wrong_it_is_kd(mode: Mode) -> None:
    student, right = logits(0), adjusted(TEACHER, TARGETS, "probability_shift")
    loss = distillers.build("ka", mode=mode)(output(student), output(right), BATCH)["ka"]
    assert torch.equal(loss, distillers.build("kd", weight=1.0)(output(student), output(right), BATCH)["kd"])


def test_the_tasks_own_loss_is_dropped_unless_it_is_asked_for() -> None:
    assert (distillers.build("ka").task_weight, distillers.build("ka", task_weight=0.5).task_weight) == (0.0, 0.5)


def test_what_does_not_apply_is_refused() -> None:
    with pytest.raises(InputError, match=r"'ka' uses correct only with label_smoothing, got correct: 0.9 with prob"):
        distillers.build("ka", correct=0.9)
    for correct, said in [(1.0, "less than 1"), (0.0, "greater than 0")]:
        with pytest.raises(ValidationError, match=said):
            distillers.build("ka", mode="label_smoothing", correct=correct)
