"""The mean of the sequence, as a forecast: it takes in all steps and knows nothing of their order."""

from __future__ import annotations

from torch import Tensor, nn

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite


@EXTRACTORS.register("mean", source="the mean forecast, scaled")
class Mean(Extractor):
    """The mean over the sequence, times a weight and plus a bias that are learned."""

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.head(sequence.mean(0))
        return prediction
