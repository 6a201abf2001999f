"""A network that sees smaller images than its task has."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Downsample:
    """A forward pre-hook: whoever gives the network images, it sees them averaged down.

    The network keeps its names and parameters, and its copies see as little as it does.
    """

    def __init__(self, size: int) -> None:
        """Set the height and width that remain, in pixels."""
        self.size = size

    def __call__(self, network: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return what the network gets in place of images ``[B, C, H, W]``."""
        images, *rest = given
        return downsampled(images, self.size), *rest


def downsampled(images: Tensor, size: int) -> Tensor:
    """Return images ``[B, C, size, size]``: means of whole pixels where they fit, else an antialiasing filter."""
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if height % size == 0 and width % size == 0:
        return F.avg_pool2d(images, (height // size, width // size))
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
