"""The learning rate is a pure function of the epoch."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.training.milestones import scaled_milestones
from tskd_tune.training.optim import Recipe


def recipe(convention: str = "at") -> Recipe:
    return Recipe(0.1, [150, 180, 210], 0.1, 0.9, False, 5e-4, convention)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 0.1), (149, 0.1), (150, 0.01), (179, 0.01), (180, 0.001), (210, 0.0001), (239, 0.0001)]
)
def test_a_milestone_is_the_first_epoch_at_the_lower_rate(epoch: int, rate: float) -> None:
    assert recipe().rate(epoch) == pytest.approx(rate, rel=1e-12)


def test_the_authors_code_keeps_the_higher_rate_through_the_milestone() -> None:
    assert recipe("after").rate(150) == pytest.approx(0.1)
    assert recipe("after").rate(151) == pytest.approx(0.01)


def test_milestones_scale_with_the_length_of_training() -> None:
    assert scaled_milestones(240) == [150, 180, 210]
    assert scaled_milestones(16) == [10, 12, 14]
    assert scaled_milestones(1) == []


def test_the_optimizer_is_the_papers_and_skips_empty_groups() -> None:
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = recipe().optimizer([[weight], []])
    momentum = torch.zeros(2, dtype=torch.float64)
    expected = weight.detach().clone()
    for gradient in (torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.0]).double()):
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.9 * momentum + gradient + 5e-4 * expected
        expected = expected - 0.1 * momentum
    assert len(optimizer.param_groups) == 1
    assert torch.allclose(weight.detach(), expected, rtol=0, atol=1e-15)
