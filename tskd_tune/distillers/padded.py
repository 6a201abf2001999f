"""Batch norms and mean squares of maps whose images have different sizes: the padding counts in neither."""

from __future__ import annotations

from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.method.padding import Padding, Size


def size_of(maps: Tensor) -> Size:
    """Return ``(H, W)`` of maps ``[..., H, W]``."""
    return maps.shape[-2], maps.shape[-1]


def inside_of(maps: Tensor, padding: Padding | None) -> Tensor | None:
    """Return ``[B, H, W]`` of bool, what is no padding in maps ``[B, C, H, W]``; None where no image is padded."""
    return None if padding is None else padding.inside(size_of(maps))


def zeroed(maps: Tensor, inside: Tensor | None) -> Tensor:
    """Return maps ``[B, C, H, W]`` that are zero in the padding, as a convolution sees the border of an image."""
    return maps if inside is None else maps.where(inside.unsqueeze(1), 0)


def normed(norm: nn.Module, maps: Tensor, inside: Tensor | None) -> Tensor:
    """Apply a batch norm to maps ``[B, C, H, W]`` whose statistics are those of the cells inside the images.

    With padding the result is zero there, and the device is waited for.

    Raises:
        InputError: there is only one cell, of which a batch norm in training has no statistics.
    """
    if inside is None:
        unpadded: Tensor = norm(maps)
        return unpadded
    cells = maps.movedim(1, -1)[inside]  # [cells, C]
    if norm.training and len(cells) < 2:
        raise InputError(
            "distiller: the maps of this batch have one cell, of which a batch norm has no statistics; raise"
            " task.batch_size, lower training.accumulate, or leave the coarsest stage out"
        )
    # Without the copy torch 2 returns a wrong gradient: it takes strides of one row for those of channels_last.
    found: Tensor = norm(cells.t().contiguous()[None, :, :, None])[0, :, :, 0].t()
    whole = found.new_zeros(*inside.shape, found.shape[1])
    whole[inside] = found
    return whole.movedim(-1, 1)


def mean_square(gaps: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over the images of the mean square of an image's gaps, of ``[B, C, H, W]``."""
    squares = gaps.square().mean(1).where(inside, 0).sum((1, 2))
    return (squares / inside.sum((1, 2))).mean()


def cropped(maps: Tensor, padding: Padding) -> list[Tensor]:
    """Return the map ``[1, C, h, w]`` of each image without its padding; this waits for the device."""
    sizes = padding.cells(size_of(maps)).tolist()
    return [map_[None, :, :height, :width] for map_, (height, width) in zip(maps, sizes, strict=True)]
