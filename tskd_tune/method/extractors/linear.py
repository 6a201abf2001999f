"""An autoregression with the same weights for every pixel."""

from __future__ import annotations

from torch import Tensor, nn

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite


@EXTRACTORS.register("linear", source="an autoregression of a pixel on its T past values")
class Linear(Extractor):
    """A weighted sum over the sequence, the same T weights and bias for every pixel."""

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.head = nn.Conv2d(site.steps, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.head(sequence.squeeze(2).movedim(0, 1))
        return prediction
