"""A transform of one's own."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import Tensor

from tskd_tune.contracts import exact
from tskd_tune.method.transforms import Transform


class Energy(Transform):
    """The mean energy of all channels, damped where it is large."""

    def __init__(self, *, damping: PositiveFloat = 1.0) -> None:
        """Set the damping.

        Args:
            damping: the energy at which the map is half of its limit.
        """
        super().__init__()
        self.damping = damping

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, H, W]``."""
        energy = exact(features).square().mean(1)
        return energy / (energy + self.damping)
