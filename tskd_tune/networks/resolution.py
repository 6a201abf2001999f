"""Networks that get smaller images than the task has."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Downsample:
    """A forward pre-hook that averages images down before a network gets them.

    The network keeps its parameter names, and copies of the network have the hook too.
    """

    def __init__(self, size: int) -> None:
        """Set the height and width that remain, in pixels."""
        self.size = size

    def __call__(self, network: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the arguments of the network, with the images ``[B, C, H, W]`` averaged down."""
        images, *rest = given
        return downsampled(images, self.size), *rest


def downsampled(images: Tensor, size: int) -> Tensor:
    """Return images ``[B, C, size, size]``: means of whole pixels if possible, otherwise an antialiasing filter."""
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    if height % size == 0 and width % size == 0:
        return F.avg_pool2d(images, (height // size, width // size))
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
