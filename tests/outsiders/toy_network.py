"""A network of one's own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import BatchNormStatistics, Classified
from tskd_tune.networks import Network


class ThreeConvolutions(Network):
    """Three convolutions, each a stage, and a linear classifier."""

    def __init__(self, classes: int, channels: int = 3, *, width: PositiveInt = 6) -> None:
        """Build the layers.

        Args:
            width: number of channels of the first stage.
        """
        super().__init__()
        widths = (channels, width, 2 * width, 2 * width)
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=stride, padding=1)
            for before, after, stride in zip(widths[:-1], widths[1:], (1, 2, 1), strict=True)
        )
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Classified:
        """Map images ``[B, channels, H, W]`` to their output."""
        before, features, map_ = {}, {}, images
        for number, stage in enumerate(self.stages, 1):
            before[f"stage{number}"] = stage(map_)
            features[f"stage{number}"] = map_ = before[f"stage{number}"].relu()
        embedding = map_.mean((2, 3))
        return Classified(self.fc(embedding), features, before, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: no batch norm stands before an activation."""
        return {}
