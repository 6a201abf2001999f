"""KD and AT against their formulas, written out in float64, in value and gradient."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(5, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1]), torch.arange(5))


def output(seed: int, sizes: tuple[int, ...] = (4, 4, 2), channels: int = 3) -> Classified:
    source = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64).requires_grad_()

    stages = [f"stage{number}" for number in range(len(sizes))]
    features = {"stem" if n == 0 else stages[n]: drawn(5, channels, size, size) for n, size in enumerate(sizes)}
    return Classified(drawn(5, 3), features, features, drawn(5, 4))


PROBE = Probe(Shapes.of(output(0)), Shapes.of(output(1)), 3, BATCH.targets)


def test_none_adds_nothing_and_asks_for_nothing() -> None:
    none = distillers.build("none")
    assert none(output(0), output(1), BATCH) == {}
    assert not none.needs and none.task_weight == 1.0 and not list(none.parameters())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_softened_divergence_in_value_and_gradient(temperature: float) -> None:
    student, teacher = output(0), output(1)
    loss = distillers.build("kd", temperature=temperature, weight=0.7)(student, teacher, BATCH)["kd"]
    expected = 0.0
    gradient = torch.zeros(5, 3, dtype=torch.float64)
    for b in range(5):
        p = [math.exp(t / temperature) for t in teacher.logits[b].tolist()]
        q = [math.exp(s / temperature) for s in student.logits[b].tolist()]
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        expected += 0.7 * temperature**2 * sum(a * math.log(a / b_) for a, b_ in zip(p, q, strict=True)) / 5
        # d KL / d logit = (q - p) / T
        shares = [0.7 * temperature * (c - a) / 5 for a, c in zip(p, q, strict=True)]
        gradient[b] = torch.tensor(shares, dtype=torch.float64)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-12)
    assert torch.allclose(torch.autograd.grad(loss, student.logits)[0], gradient, rtol=1e-10, atol=1e-15)


def test_kd_vanishes_where_the_student_says_what_the_teacher_says() -> None:
    same = output(0)
    kd = distillers.build("kd")
    assert float(kd(same, same, BATCH)["kd"].detach()) == pytest.approx(0.0, abs=1e-12)
    assert (kd.task_weight, kd.weight, kd.temperature) == (0.1, 0.9, 4.0)


def attention(features: Tensor, power: int) -> Tensor:
    flat = features.abs().pow(power).mean(1).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("power", [1, 2, 4])
def test_at_is_the_sum_of_mean_squared_gaps_of_normalized_maps_without_the_stem(power: int) -> None:
    student, teacher = output(0), output(1, channels=6)
    loss = distillers.build("at", PROBE, power=power, weight=10.0)(student, teacher, BATCH)["at"]
    expected = sum(
        10.0 * (attention(student.features[s], power) - attention(teacher.features[s], power)).square().mean()
        for s in ("stage1", "stage2")
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found = torch.autograd.grad(loss, student.features["stage1"])[0]
    wanted = torch.autograd.grad(expected, student.features["stage1"])[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_at_pools_the_larger_of_two_sizes() -> None:
    small, large = output(0, (4, 2, 2)), output(1, (4, 4, 2))
    at = distillers.build("at", PROBE)
    pooled = torch.nn.functional.avg_pool2d(large.features["stage1"], 2)
    reduced = Classified(large.logits, {**large.features, "stage1": pooled}, {}, large.embedding)
    for pair, twin in [((small, large), (small, reduced)), ((large, small), (reduced, small))]:
        torch.testing.assert_close(at(*pair, BATCH)["at"], at(*twin, BATCH)["at"], rtol=1e-12, atol=0)


def test_build_refuses_unknown_names_and_options() -> None:
    with pytest.raises(InputError, match="'nome' is not among the distillers; did you mean 'none'"):
        distillers.build("nome")
    with pytest.raises(ValidationError, match="unknown key 'temp'"):
        distillers.build("kd", temp=3.0)
    with pytest.raises(ValidationError, match="greater than 0"):
        distillers.build("kd", temperature=0.0)
