"""An extractor of one's own."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from tskd_tune.method.extractors import Extractor, ExtractorSite


class Fading(Extractor):
    """A weighted mean of the sequence, in which older maps count less; its scale is learned."""

    def __init__(self, site: ExtractorSite, *, fading: PositiveFloat = 0.5) -> None:
        """Weigh the maps.

        Args:
            fading: the weight of a map, as a share of that of the map after it.
        """
        super().__init__()
        weights = torch.tensor([fading**age for age in reversed(range(site.steps))])
        self.register_buffer("weights", (weights / weights.sum()).view(-1, 1, 1, 1, 1))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, sequence: Tensor) -> Tensor:
        """Map a sequence ``[T, B, 1, H, W]`` to a prediction ``[B, 1, H, W]``."""
        return self.scale * (self.weights * sequence).sum(0)
