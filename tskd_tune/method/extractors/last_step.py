"""The persistence forecast: the change that comes next is as the last one."""

from __future__ import annotations

from torch import Tensor, nn

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite


@EXTRACTORS.register("last_step", source="the persistence forecast, scaled")
class LastStep(Extractor):
    """The last element of the sequence, times a weight and plus a bias that are learned."""

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.head(sequence[-1])
        return prediction
