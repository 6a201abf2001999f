"""A network of fully connected layers, tapped after each hidden layer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network


@NETWORKS.register("mlp", source="Rumelhart et al. 1986; 1-32-32-1 with ReLU stands for figure 1 of the TSKD paper")
class Mlp(Network):
    """Fully connected layers with ReLU; each unit of a hidden layer is a channel of a map of one pixel.

    The stages are ``stage1``, ``stage2``, ..., one for each hidden layer; the embedding is the last of them.
    """

    cuttable = True

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        *,
        size: PositiveInt = 32,
        width: PositiveInt = 64,
        depth: PositiveInt = 3,
    ) -> None:
        """Build the layers, with torch's own initialization.

        Args:
            classes: the number of outputs.
            channels: the channels of the images.
            size: the height and the width of the images, in pixels.
            width: number of units of each hidden layer.
            depth: number of hidden layers.
        """
        super().__init__()
        self._shape = (channels, size, size)
        widths = [channels * size * size, *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, size, size]`` to their output, or to their features alone.

        Raises:
            RuntimeError: the images have another shape.
        """
        if images.shape[1:] != self._shape:
            raise RuntimeError(
                f"the layers are built for images of channels, height and width {[*self._shape]}, but were given"
                f" {[*images.shape[1:]]}; set the option size of mlp"
            )
        units = images.flatten(1)
        features: dict[str, Tensor] = {}
        preactivations: dict[str, Tensor] = {}
        for place, layer in enumerate(self.layers, start=1):
            before = layer(units)
            units = F.relu(before)
            features[f"stage{place}"], preactivations[f"stage{place}"] = (
                units[:, :, None, None],
                before[:, :, None, None],
            )
        if not heads:
            return Features(features, preactivations)
        return Classified(self.fc(units), features, preactivations, units)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return nothing: there are no batch norms."""
        return {}
