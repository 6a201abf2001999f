"""Which cells of a map belong to an image, and which to the padding that brings the images of a batch to one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch

Size = tuple[int, int]


@dataclass(frozen=True)
class Padding:
    """The true sizes of B images that are padded at the bottom and at the right.

    >>> padding = Padding(torch.tensor([[64, 32], [40, 64]]), 64, 64)
    >>> padding.inside((4, 4))[:, 0].int()  # the first row of both maps of 4x4 cells: 16 pixels a cell
    tensor([[1, 1, 0, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    >>> padding.inside((4, 4))[:, :, 0].int()  # 40 pixels reach into the third cell
    tensor([[1, 1, 1, 1],
            [1, 1, 1, 0]], dtype=torch.int32)

    Attributes:
        sizes: ``[B, 2]``, height and width of each image before it was padded, in pixels.
        height: the height of the padded images, in pixels.
        width: the width of the padded images, in pixels.
    """

    sizes: Tensor
    height: int
    width: int

    @classmethod
    def of(cls, batch: AnyBatch) -> Padding | None:
        """Return the padding of a batch; None where the batch says nothing of sizes, so that no image is padded."""
        if batch.sizes is None:
            return None
        return cls(batch.sizes, batch.images.shape[-2], batch.images.shape[-1])

    def cells(self, size: Size) -> Tensor:
        """Return ``[B, 2]``, the rows and columns of a map that belong to each image.

        A cell belongs to an image if its area begins inside the image. A network whose layers halve a size upward
        (``ceil(size / 2)``) makes as many cells of the image alone.

        Args:
            size: ``(H, W)`` of a map of the whole padded image.
        """
        counts = [-(-self.sizes[:, side] * size[side] // whole) for side, whole in ((0, self.height), (1, self.width))]
        return torch.stack(counts, dim=1)

    def inside(self, size: Size) -> Tensor:
        """Return ``[B, H, W]`` of bool for maps of ``size = (H, W)``: True for the cells of the image."""
        cells = self.cells(size)
        rows, columns = (
            torch.arange(side, device=self.sizes.device) < cells[:, axis, None] for axis, side in enumerate(size)
        )
        return rows[:, :, None] & columns[:, None, :]

    def resized(self, maps: Tensor, size: Size, resize: Callable[[Tensor, Size], Tensor]) -> Tensor:
        """Bring maps ``[B, C, H, W]`` to another size, so that no padding is averaged into a cell of an image.

        Args:
            maps: the maps of the whole padded images.
            size: the new height and width.
            resize: a linear map to a size, whose weights for each cell have the sum 1.
        """
        before = (maps.shape[-2], maps.shape[-1])
        if before == size:
            return maps
        inside = self.inside(before).unsqueeze(1).to(maps.dtype)
        share = resize(inside, size)
        return resize(maps * inside, size) / share.where(share > 0, 1)


def masked(maps: Tensor, inside: Tensor | None) -> Tensor:
    """Return maps that are zero where ``inside`` is 0; without padding (None) the maps as they are."""
    return maps if inside is None else maps * inside
