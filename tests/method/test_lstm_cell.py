"""The gates of a step: their values and gradients are those of the equations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune.method.extractors import ExtractorSite
from tskd_tune.method.extractors.conv_lstm import ConvLSTM
from tskd_tune.method.extractors.lstm_cell import Peepholes, State, gated

SHAPES: dict[str, Any] = {"none": None, "channel": (1, 3, 1, 1), "full": (1, 3, 4, 5)}


def drawn(
    peephole: str, with_cell: bool, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor | None, list[Any]]:
    torch.manual_seed(0)
    gates = torch.randn(2, 12, 4, 5, dtype=dtype, requires_grad=True)
    cell = torch.randn(2, 3, 4, 5, dtype=dtype, requires_grad=True) if with_cell else None
    shape = SHAPES[peephole]
    weights = [] if shape is None else [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(3)]
    return gates, cell, weights


def by_equations(gates: Tensor, cell: Tensor | None, peepholes: Peepholes) -> State:
    """Eq. 11, as it is written."""
    i, f, c, o = gates.chunk(4, 1)
    before = torch.zeros_like(i) if cell is None else cell
    to_input, to_forget, to_output = peepholes or (torch.zeros_like(i),) * 3
    i, f = torch.sigmoid(i + to_input * before), torch.sigmoid(f + to_forget * before)
    now = f * before + i * torch.tanh(c)
    return torch.sigmoid(o + to_output * now) * torch.tanh(now), now


@pytest.mark.parametrize("peephole", SHAPES)
@pytest.mark.parametrize("with_cell", [True, False])
@pytest.mark.parametrize("used", [(0,), (1,), (0, 1)])
def test_values_and_gradients_are_those_of_the_equations(peephole: str, with_cell: bool, used: tuple[int, ...]) -> None:
    gates, cell, weights = drawn(peephole, with_cell)
    peepholes = tuple(weights) or None
    inputs = [gates, *([] if cell is None else [cell]), *weights]
    results = []
    for step in (gated, by_equations):
        states = step(gates, cell, peepholes)  # type: ignore[arg-type]
        loss = sum((states[index] * torch.arange(60.0).view(3, 4, 5)).sum() for index in used)
        assert isinstance(loss, Tensor)
        results.append((states, torch.autograd.grad(loss, inputs, allow_unused=True)))
    (found, slopes), (wanted, expected) = results
    torch.testing.assert_close(found, wanted)
    for given, slope, right in zip(inputs, slopes, expected, strict=True):
        # What has no effect may have no gradient, or one of zeros.
        zeros = torch.zeros_like(given)
        torch.testing.assert_close(zeros if slope is None else slope, zeros if right is None else right)


def test_the_gradient_is_that_of_small_differences() -> None:
    gates, cell, weights = drawn("channel", with_cell=True)
    assert torch.autograd.gradcheck(lambda gates, cell, *weights: gated(gates, cell, weights), (gates, cell, *weights))


def test_weights_without_effect_have_no_gradient_that_weight_decay_could_act_on() -> None:
    extractor = ConvLSTM(ExtractorSite(steps=1, height=4, width=4, tap=0, taps=1), hidden=2)
    extractor(torch.rand(1, 2, 1, 4, 4)).sum().backward()
    without = {name for name, parameter in extractor.named_parameters() if parameter.grad is None}
    assert without == {"encoder.recurrent.weight", "encoder.peep_input", "encoder.peep_forget"}


def test_half_precision_stays_half_and_its_weights_keep_their_type() -> None:
    gates, cell, _ = drawn("none", with_cell=True, dtype=torch.bfloat16)
    weights = tuple(torch.zeros(1, 3, 1, 1, requires_grad=True) for _ in range(3))
    hidden, now = gated(gates, cell, weights)  # type: ignore[arg-type]
    assert hidden.dtype == now.dtype == torch.bfloat16
    hidden.float().sum().backward()
    assert [weight.grad is not None and weight.grad.dtype for weight in weights] == [torch.float32] * 3
