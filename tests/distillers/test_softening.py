"""What distillers of logits share: softened log-probabilities, their divergence, no wait for the device."""

from __future__ import annotations

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, exact
from tskd_tune.distillers.softening import divergences, kl_divergences, log_softened

LOGIT_DISTILLERS = ["kd", "ka", "dtd", "dkd", "logit_standardization", "multi_level"]


def test_exact_widens_half_precision_only() -> None:
    given = {torch.bfloat16: torch.float32, torch.float32: torch.float32, torch.float64: torch.float64}
    assert {dtype: exact(torch.ones(2, dtype=dtype)).dtype for dtype in given} == given


def test_a_temperature_may_be_one_for_all_or_one_for_each() -> None:
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, generator=source, dtype=torch.float64)
    found = log_softened(logits, torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64))
    for row, temperature in zip(range(3), (1.0, 2.0, 5.0), strict=True):
        powers = [math.exp(value / temperature) for value in logits[row].tolist()]
        assert found[row].tolist() == pytest.approx([math.log(power / sum(powers)) for power in powers], rel=1e-12)
        torch.testing.assert_close(found[row], log_softened(logits, temperature)[row], rtol=0, atol=0)


def test_divergences_are_of_the_first_distribution_from_the_second() -> None:
    q, p = [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]
    given, wanted = (torch.tensor([row], dtype=torch.float64).log() for row in (q, p))
    expected = sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
    assert kl_divergences(given, wanted).tolist() == pytest.approx([expected], rel=1e-12)
    assert divergences(given, wanted, 1.0).tolist() == pytest.approx([expected], rel=1e-12)


@pytest.mark.parametrize("name", LOGIT_DISTILLERS)
def test_no_number_is_fetched_from_the_device_in_a_step(name: str) -> None:
    distiller = distillers.build(name)
    # A fake tensor has no values: whoever asks for one, as .item() and a mask as an index do, fails.
    with FakeTensorMode():
        logits = torch.randn(8, 5, requires_grad=True)
        batch = Batch(torch.zeros(8, 1, 2, 2), torch.zeros(8, dtype=torch.long), torch.zeros(8, dtype=torch.long))
        losses = distiller(Classified(logits, {}, {}, logits), Classified(logits.detach(), {}, {}, logits), batch)
        sum(losses.values(), torch.zeros(())).backward()
        assert logits.grad is not None and logits.grad.shape == (8, 5)


@pytest.mark.parametrize("name", LOGIT_DISTILLERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_loss_of_half_precision_is_that_of_the_same_logits_widened(name: str, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(8, 5, generator=source).to(dtype).requires_grad_() for _ in range(2))
    batch = Batch(torch.zeros(8, 1, 2, 2), torch.arange(8) % 5, torch.arange(8))
    distiller = distillers.build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distiller(Classified(student, {}, {}, student), Classified(teacher, {}, {}, teacher), batch)
    given, wanted = student.float(), teacher.float()
    expected = distiller(Classified(given, {}, {}, given), Classified(wanted, {}, {}, wanted), batch)
    for key, loss in found.items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected[key], rtol=1e-6, atol=0)
