"""DTD against its formula, written out in float64: the temperatures of the samples, value and gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers.dtd import DTD
from tskd_tune.errors import InputError

CLASSES, SAMPLES = 5, 12
TARGETS = torch.arange(SAMPLES) % CLASSES
BATCH = Batch(torch.zeros(SAMPLES, 1, 2, 2), TARGETS, torch.arange(SAMPLES))


def logits(seed: int, scale: float = 2.0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(SAMPLES, CLASSES, generator=source, dtype=torch.float64)).requires_grad_()


def output(values: Tensor) -> Classified:
    return Classified(values, {}, {}, values)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


STUDENT, TEACHER = logits(0), logits(1).detach()


def hardness(weighting: str, gamma: float) -> list[float]:
    found = []
    for s, t in zip(STUDENT.tolist(), TEACHER.tolist(), strict=True):
        cosine = sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t)
        found.append((1 - cosine) ** gamma if weighting == "flsw" else 1 / max(softmax(s, 1.0)))
    return found


def temperatures(weighting: str, gamma: float, base: float, beta: float, floor: float) -> list[float]:
    w = hardness(weighting, gamma)
    return [max(base + beta * (sum(w) / len(w) - value), floor) for value in w]


def corrected(row: list[float], target: int, adjustment: str, correct: float) -> list[float]:
    best = max(range(len(row)), key=row.__getitem__)
    if adjustment == "off" or best == target:
        return row
    if adjustment == "label_smoothing":
        return [correct if c == target else (1 - correct) / (len(row) - 1) for c in range(len(row))]
    swapped = list(row)
    swapped[best], swapped[target] = row[target], row[best]
    return swapped


CASES: list[Mapping[str, object]] = [
    {"weighting": "flsw"},
    {"weighting": "flsw", "gamma": 0.25, "beta": 4.0, "temperature": 8.0},
    {"weighting": "flsw", "gamma": 2.0, "min_temperature": 2.5},
    {"weighting": "cwsm", "beta": 1.0},
    {"weighting": "cwsm", "beta": 3.0, "min_temperature": 0.5},
    {"weighting": "flsw", "adjustment": "probability_shift"},
    {"weighting": "cwsm", "beta": 0.5, "adjustment": "label_smoothing"},
    {"weighting": "flsw", "adjustment": "label_smoothing", "correct": 0.8},
]


@pytest.mark.parametrize("options", CASES)
def test_the_loss_is_the_divergence_at_each_samples_own_temperature(options: Mapping[str, object]) -> None:
    filled = {"gamma": 1.0, "temperature": 4.0, "beta": 10.0, "min_temperature": 1.0, "adjustment": "off", **options}
    taus = temperatures(*(filled[key] for key in ("weighting", "gamma", "temperature", "beta", "min_temperature")))
    loss = distillers.build("dtd", weight=0.7, **options)(output(STUDENT), output(TEACHER), BATCH)["dtd"]
    expected, gradient = 0.0, torch.zeros(SAMPLES, CLASSES, dtype=torch.float64)
    for b, tau in enumerate(taus):
        p = softmax(TEACHER[b].tolist(), tau)
        p = corrected(p, int(TARGETS[b]), filled["adjustment"], options.get("correct", 0.99))
        q = softmax(STUDENT[b].tolist(), tau)
        divergence = sum(wanted * math.log(wanted / given) for wanted, given in zip(p, q, strict=True))
        expected += 0.7 * tau**2 * divergence / SAMPLES
        # That of a constant temperature: none flows through w.
        shares = [0.7 * tau * (given - wanted) / SAMPLES for wanted, given in zip(p, q, strict=True)]
        gradient[b] = torch.tensor(shares, dtype=torch.float64)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(loss, STUDENT)[0], gradient, rtol=1e-9, atol=1e-14)


def taus_of(student: Tensor = STUDENT, teacher: Tensor = TEACHER, **options: object) -> Tensor:
    dtd = distillers.build("dtd", **options)
    assert isinstance(dtd, DTD)
    return dtd.temperatures(student, teacher)


@pytest.mark.parametrize(("weighting", "beta"), [("flsw", 2.0), ("cwsm", 0.5)])
def test_the_mean_is_the_base_and_the_harder_sample_the_colder_while_the_floor_is_not_reached(
    weighting: str, beta: float
) -> None:
    found = taus_of(weighting=weighting, beta=beta, min_temperature=1e-6)
    assert found.shape == (SAMPLES,) and not found.requires_grad and float(found.min()) > 1e-6
    assert float(found.mean()) == pytest.approx(4.0, rel=1e-12)
    assert found.argsort(descending=True).tolist() == torch.tensor(hardness(weighting, 1.0)).argsort().tolist()
    assert float(found.max() - found.min()) > 0.4


def test_the_floor_holds_and_lifts_only_what_lies_below_it() -> None:
    free, held = taus_of(beta=20.0, min_temperature=1e-6), taus_of(beta=20.0, min_temperature=3.0)
    assert float(held.min()) == 3.0 and float(held.mean()) > 4.0
    assert torch.equal(held[free > 3.0], free[free > 3.0]) and bool((free > 3.0).any())


def test_confidence_is_the_students_alone_and_at_temperature_one() -> None:
    cwsm = {"weighting": "cwsm", "beta": 0.5, "min_temperature": 1e-6}
    assert torch.equal(taus_of(**cwsm), taus_of(teacher=logits(7), **cwsm))
    assert not torch.equal(taus_of(), taus_of(teacher=logits(7)))
    raised = taus_of(**{**cwsm, "temperature": 6.0}) - taus_of(**cwsm)
    torch.testing.assert_close(raised, torch.full_like(raised, 2.0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("gamma", [0.25, 1.0, 3.0])
def test_where_logits_are_parallel_every_sample_has_the_base_temperature(gamma: float) -> None:
    for dtype in (torch.float32, torch.float64):
        parallel = TEACHER.to(dtype)
        found = taus_of(student=3.0 * parallel, teacher=parallel, gamma=gamma, beta=1.0)
        torch.testing.assert_close(found, torch.full_like(found, 4.0), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("adjustment", "other"), [("off", "kd"), ("probability_shift", "ka"), ("label_smoothing", "ka")]
)
def test_without_a_spread_it_is_kd_or_ka(adjustment: str, other: str) -> None:
    options = {} if other == "kd" else {"mode": adjustment}
    wanted = distillers.build(other, weight=0.9, **options)(output(STUDENT), output(TEACHER), BATCH)[other]
    found = distillers.build("dtd", beta=0.0, adjustment=adjustment)(output(STUDENT), output(TEACHER), BATCH)["dtd"]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_the_loss_and_its_gradient_vanish_where_the_student_says_what_the_teacher_says() -> None:
    for weighting in ("flsw", "cwsm"):
        same = TEACHER.clone().requires_grad_()
        loss = distillers.build("dtd", weighting=weighting)(output(same), output(TEACHER), BATCH)["dtd"]
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
        assert float(torch.autograd.grad(loss, same)[0].abs().max()) < 1e-12


def test_the_weights_of_the_losses_are_kds() -> None:
    dtd, kd = distillers.build("dtd"), distillers.build("kd")
    assert (dtd.weight, dtd.task_weight, dtd.temperature) == (kd.weight, kd.task_weight, kd.temperature)
    assert distillers.build("dtd", task_weight=0.0).task_weight == 0.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"weighting": "cwsm", "gamma": 1.0},
            "uses gamma with weighting: flsw only, got gamma: 1.0",
        ),
        (
            {"temperature": 2.0, "min_temperature": 3.0},
            "got min_temperature: 3.0 and temperature: 2.0",
        ),
        ({"correct": 0.9}, "'dtd' uses correct only with label_smoothing, got correct: 0.9 with off"),
        ({"correct": 0.9, "adjustment": "probability_shift"}, "got correct: 0.9 with probability_shift"),
    ],
)
def test_what_does_not_apply_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        distillers.build("dtd", **options)


def test_bounds() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        distillers.build("dtd", beta=-1.0)
    with pytest.raises(ValidationError, match="'off', 'probability_shift' or 'label_smoothing'"):
        distillers.build("dtd", adjustment="shift")
