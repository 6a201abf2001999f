"""A plain convolutional network of three stages, with or without batch norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network, statistics


@NETWORKS.register("small_cnn", source="LeCun et al. 1998; one 3x3 convolution a stage, global average pooling")
class SmallCnn(Network):
    """Three 3x3 convolutions with ReLU, the second and the third of stride 2, for small images of any size."""

    cuttable = True

    def __init__(self, classes: int, channels: int = 3, *, width: PositiveInt = 16, batch_norm: bool = True) -> None:
        """Build the network.

        Args:
            classes: the number of classes.
            channels: the channels of the images.
            width: channels of the first stage; the second has twice and the third four times as many.
            batch_norm: whether a batch norm stands between each convolution and its activation.
        """
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[place], widths[place + 1], 3, 1 if place == 0 else 2, padding=1, bias=not batch_norm)
            for place in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:]) if batch_norm else None
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read."""
        features: dict[str, Tensor] = {}
        preactivations: dict[str, Tensor] = {}
        activated = images
        for place, convolution in enumerate(self.convolutions):
            before = convolution(activated)
            if self.norms is not None:
                before = self.norms[place](before)
            activated = F.relu(before)
            features[f"stage{place + 1}"], preactivations[f"stage{place + 1}"] = activated, before
        if not heads:
            return Features(features, preactivations)
        embedding = activated.mean(dim=(2, 3))
        return Classified(self.fc(embedding), features, preactivations, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the batch norm of each stage; empty without batch norms."""
        norms = [] if self.norms is None else [cast("nn.BatchNorm2d", norm) for norm in self.norms]
        return statistics({f"stage{place}": norm for place, norm in enumerate(norms, start=1)})
