"""First weights that several networks share."""

from __future__ import annotations

from typing import cast

from torch import nn


def initialize(network: nn.Module) -> None:
    """Draw convolutions with the deviation of their outputs, linear layers with a deviation of 0.01; biases are 0.

    Source: He et al., Delving Deep into Rectifiers (2015), equation 14; the linear layers of the RepDistiller code.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def replace_first_convolution(model: nn.Module, channels: int) -> None:
    """Let a model read images of other channels; the new weights have the deviation of their outputs."""
    path, old = next((path, part) for path, part in model.named_modules() if isinstance(part, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        cast("tuple[int, int]", old.kernel_size),
        cast("tuple[int, int]", old.stride),
        cast("tuple[int, int]", old.padding),
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    if new.bias is not None:
        nn.init.zeros_(new.bias)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, new)
