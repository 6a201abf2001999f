"""VGG for small images: plain 3x3 convolutions in five blocks, tapped before and after their last activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import STEM, Batch, BatchNormStatistics, Classified, Features
from tskd_tune.networks.base import NETWORKS, Network, statistics
from tskd_tune.networks.initialization import initialize

WIDTHS = (64, 128, 256, 512, 512)
STAGES = (STEM, "stage1", "stage2", "stage3", "stage4")
# The last block of smaller images is not pooled, so that those of 32 pixels keep a map of 4.
POOLED_SIZE = 64

# name -> convolutions in each of the five blocks; the depth counts them and the classifier, as the field does.
LAYOUTS: dict[str, tuple[int, ...]] = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg13": (2, 2, 2, 2, 2),
}


class VGG(Network):
    """A plain network of 5 blocks with batch norm and one linear layer, with the field's parameter names.

    The first block is the ``stem``, the others are the stages 1 to 4. ``features`` are taken after the activation,
    ``preactivations`` before it. A max pool halves the size before each of the stages 1 to 3, and before stage 4
    where images are 64 pixels high or more; the classifier reads the mean of stage 4. Images of 32 and of 64 pixels
    are treated as in the public code; others, from 8 pixels up, are taken too.

    Source: Simonyan and Zisserman, Very Deep Convolutional Networks (2015), table 1; blocks, pooling and names of
    the RepDistiller code.
    """

    def __init__(self, convolutions: tuple[int, ...], classes: int, channels: int = 3) -> None:
        """Stack ``convolutions`` of 3x3 in each of the five blocks."""
        super().__init__()
        blocks = (
            _block(count, inputs, outputs)
            for count, (inputs, outputs) in zip(convolutions, pairwise((channels, *WIDTHS)), strict=True)
        )
        self.block0, self.block1, self.block2, self.block3, self.block4 = blocks
        self.classifier = nn.Linear(WIDTHS[-1], classes)
        initialize(self)

    cuttable = True

    def forward(self, images: Tensor, batch: Batch | None = None, *, heads: bool = True) -> Classified | Features:
        """Map images ``[B, channels, H, W]`` to their output, or to their features alone; the batch is not read.

        The stem keeps the size of the images.
        """
        pooled = {"stage1", "stage2", "stage3"} | ({"stage4"} if images.shape[-2] >= POOLED_SIZE else set())
        preactivations: dict[str, Tensor] = {}
        features: dict[str, Tensor] = {}
        activated = images
        for stage, block in self._blocks().items():
            preactivations[stage] = block(F.max_pool2d(activated, 2) if stage in pooled else activated)
            # Not in place: what comes before the activation is tapped too.
            features[stage] = activated = F.relu(preactivations[stage])
        if not heads:
            return Features(features, preactivations)
        embedding = activated.mean(dim=(2, 3))
        return Classified(self.classifier(embedding), features, preactivations, embedding)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return the last batch norm of every block, which ends it."""
        return statistics({stage: cast("nn.BatchNorm2d", block[-1]) for stage, block in self._blocks().items()})

    def _blocks(self) -> dict[str, nn.Sequential]:
        blocks = (self.block0, self.block1, self.block2, self.block3, self.block4)
        return dict(zip(STAGES, blocks, strict=True))


def _block(count: int, inputs: int, outputs: int) -> nn.Sequential:
    """Stack convolutions and batch norms with an activation between them, but none at the end."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)]
    for _ in range(count - 1):
        convolution = nn.Conv2d(outputs, outputs, 3, padding=1)
        layers += [nn.ReLU(inplace=True), convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers)


def _register(name: str, convolutions: tuple[int, ...]) -> Callable[..., VGG]:
    @NETWORKS.register(name, source="Simonyan and Zisserman 2015, arXiv 1409.1556; blocks and names of RepDistiller")
    def build(classes: int, channels: int = 3) -> VGG:
        return VGG(convolutions, classes, channels)

    build.__doc__ = f"VGG with batch norm, {convolutions} convolutions in its five blocks and one linear layer."
    return build


for _name, _convolutions in LAYOUTS.items():
    _register(_name, _convolutions)
