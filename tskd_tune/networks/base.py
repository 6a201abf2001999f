"""What every network gives: logits, an embedding and its stages, before and after their activation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tskd_tune.output import BatchNormStatistics, Output, Shapes
from tskd_tune.registry import Registry


class Network(nn.Module, ABC):
    """An image classifier whose stages are tapped.

    A factory of a network takes ``(classes: int, channels: int = 3, *, ...options)``.
    """

    @abstractmethod
    def forward(self, images: Tensor) -> Output:
        """Map images ``[B, channels, H, W]`` to their output."""

    @abstractmethod
    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return, by stage, the batch norm right before the stage's pre-activation; stages without one are absent."""

    def probe(self, channels: int, size: int) -> Shapes:
        """Find the shapes of every output by one dry forward in eval mode, which leaves no trace."""
        modes = {module: module.training for module in self.modules()}
        first = next(self.parameters())
        self.eval()
        try:
            with torch.no_grad():
                return Shapes.of(self(torch.zeros(1, channels, size, size, device=first.device, dtype=first.dtype)))
        finally:
            for module, mode in modes.items():
                module.training = mode


NETWORKS: Registry[Network] = Registry("networks")
