"""The first weights that VGG and MobileNetV2 share."""

from __future__ import annotations

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
