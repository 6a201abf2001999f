"""Checks what components hand back in a training: losses and numbers, which may come from a user's own code.

A loss of another form would end in an error of torch that names no component, or would train nothing without a word.
The checks look at types and shapes alone, so they wait for no device, unless a loss has no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor

from tskd_tune.errors import RunError, shown


def named_losses(found: object, where: str) -> Mapping[str, Tensor]:
    """Return what a component gave, if it is losses by name: scalars of floating point.

    Args:
        found: what the component gave.
        where: the component, as the beginning of a message.

    Raises:
        RunError: it is something else.
    """
    if not isinstance(found, Mapping):
        raise RunError(
            f"{where} gave {_kind(found)}, but its losses must be a mapping; return for example {{'hint': loss}}"
        )
    for name, loss in found.items():
        if not isinstance(name, str) or not name:
            raise RunError(f"{where} gave a loss with the name {shown(name)}, but a name must be text; name the loss")
        if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
            mean = "; return its mean over the batch" if isinstance(loss, Tensor) and loss.dim() else ""
            raise RunError(
                f"{where} gave the loss '{name}' as {_kind(loss)}, but a loss must be a tensor of floating point"
                f" without dimensions{mean}"
            )
    return found


def training_losses(found: object, where: str, *, may_rest: bool = False) -> Mapping[str, Tensor]:
    """Return losses by name, of which at least one has a gradient; without any loss there is nothing to check.

    Args:
        found: what the component gave.
        where: the component, as the beginning of a message.
        may_rest: whether losses of 0 need no gradient: a batch may hold nothing to learn for a component, such as one
            without boxes, or an epoch may have a weight of 0.

    Raises:
        RunError: as `named_losses`; or no loss has a gradient, so the component would change nothing.
    """
    losses = named_losses(found, where)
    if losses and not any(loss.requires_grad for loss in losses.values()) and not (may_rest and _are_zero(losses)):
        names = ", ".join(f"'{name}'" for name in losses)
        raise RunError(
            f"{where} gave losses without a gradient ({names}), so it would train nothing; compute its losses from the"
            " student's output without detach(), no_grad() and .item()"
        )
    return losses


def _are_zero(losses: Mapping[str, Tensor]) -> bool:
    """Tell whether all losses are 0. In the capture of a step nothing can be read; the steps before it were checked."""
    if any(loss.is_cuda for loss in losses.values()) and torch.cuda.is_current_stream_capturing():
        return True
    return not any(bool(loss.any()) for loss in losses.values())


def numbers_by_name(found: object, where: str) -> dict[str, float]:
    """Return what a component gave, if it is numbers by name; a number of numpy becomes one of Python.

    Raises:
        RunError: it is something else, such as a tensor, which no history line can hold.
    """
    if not isinstance(found, Mapping):
        raise RunError(
            f"{where} gave {_kind(found)}, but must give a mapping of names to numbers; return at least {{}}"
        )
    for name, value in found.items():
        if not isinstance(name, str) or not name:
            raise RunError(f"{where} gave a number with the name {shown(name)}, but a name must be text; name it")
        if not isinstance(value, Real):
            raise RunError(f"{where} gave '{name}' as {_kind(value)}, but must give a number; return float(...) of it")
    return {name: value if isinstance(value, int | float) else float(value) for name, value in found.items()}


def _kind(value: object) -> str:
    """Return the type of a value in words, with the shape and the dtype of a tensor."""
    if isinstance(value, Tensor):
        return f"a tensor of the shape {list(value.shape)} and the dtype {str(value.dtype).removeprefix('torch.')}"
    return "nothing (None)" if value is None else f"a value of the type {type(value).__name__}"
