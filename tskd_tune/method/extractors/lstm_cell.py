"""One step of a convolutional LSTM behind its convolution: the gates, and their gradient by hand.

The gates take more time than the convolutions, because each of their operations moves maps through the memory. Here
every map is written as few times as possible, forward and backward. The numbers are those of the equations, rounded
differently.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

State = tuple[Tensor, Tensor]
"""The hidden state and the cell state, ``[B, h, H, W]`` each."""
Peepholes = tuple[Tensor, Tensor, Tensor] | None
"""The weights from the cell state to the input, the forget and the output gate; they broadcast to ``[B, h, H, W]``."""


def gated(gates: Tensor, cell: Tensor | None, peepholes: Peepholes) -> State:
    """Go one step on (Eq. 11).

    Args:
        gates: ``[B, 4h, H, W]``, what the convolutions give to the gates i, f, c, o, in this order.
        cell: the cell state ``[B, h, H, W]``; None before the first step, where it is zero.
        peepholes: None: there are none.
    """
    weights: list[Tensor | None] = [None, None, None]
    if peepholes is not None:
        weights = [weight.to(gates.dtype) for weight in peepholes]
    if cell is None:  # so that weights without effect have no gradient, rather than one of zeros
        weights[:2] = None, None
    return cast("State", _Gated.apply(gates, cell, *weights))


class _Gated(torch.autograd.Function):
    """The nonlinear half of a step."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor | None, *peepholes: Tensor | None) -> State:
        to_input, to_forget, to_output = peepholes
        opened = torch.empty_like(gates)
        (from_input, from_forget, change, from_output), (i, f, g, o) = gates.chunk(4, 1), opened.chunk(4, 1)
        torch.tanh(change, out=g)
        _open(from_input, to_input, cell, i)
        if cell is None:
            now = i * g
        else:
            _open(from_forget, to_forget, cell, f)
            now = (f * cell).addcmul_(i, g)
        _open(from_output, to_output, now, o)
        shown = now.tanh()
        ctx.save_for_backward(opened, cell, now, shown, to_input, to_forget, to_output)
        return o * shown, now

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_hidden: Tensor, by_cell: Tensor) -> tuple[Tensor | None, ...]:
        opened, cell, now, shown, to_input, to_forget, to_output = ctx.saved_tensors
        found = torch.empty_like(opened)
        (i, f, g, o), (by_i, by_f, by_g, by_o) = opened.chunk(4, 1), found.chunk(4, 1)
        _behind_sigmoid(by_hidden, shown, o, by_o)
        by_now = _ATEN.tanh_backward(by_hidden * o, shown).add_(by_cell)
        if to_output is not None:
            by_now.addcmul_(to_output, by_o)
        torch.mul(by_now, i, out=by_g)
        _ATEN.tanh_backward.grad_input(by_g, g, grad_input=by_g)
        _behind_sigmoid(by_now, g, i, by_i)
        by_output = _of_weight(by_o, now, to_output)
        if cell is None:
            by_f.zero_()
            return found, None, None, None, by_output
        _behind_sigmoid(by_now, cell, f, by_f)
        by_past = by_now * f
        if to_input is not None:
            by_past.addcmul_(to_input, by_i).addcmul_(to_forget, by_f)
        return found, by_past, _of_weight(by_i, cell, to_input), _of_weight(by_f, cell, to_forget), by_output


_ATEN = torch.ops.aten


def _open(gate: Tensor, weight: Tensor | None, cell: Tensor | None, out: Tensor) -> None:
    """Write how far a gate is open, in (0, 1)."""
    if weight is None or cell is None:
        torch.sigmoid(gate, out=out)
    else:
        torch.addcmul(gate, weight, cell, out=out).sigmoid_()


def _behind_sigmoid(gradient: Tensor, factor: Tensor, opened: Tensor, out: Tensor) -> None:
    """Write the gradient of what a gate's sigmoid takes: the gate's output was multiplied by ``factor``."""
    torch.mul(gradient, factor, out=out)
    _ATEN.sigmoid_backward.grad_input(out, opened, grad_input=out)


def _of_weight(gradient: Tensor, cell: Tensor, weight: Tensor | None) -> Tensor | None:
    """Return the gradient of a peephole's weight, in the shape of the weight."""
    return None if weight is None else (gradient * cell).sum_to_size(weight.shape)
