"""How images become the input of a network: normalization, random crops, and how an epoch is cut into batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tskd_tune.errors import InputError

CPU_EVALUATION_VALUES = 2**18
"""Pixel values in a batch of an evaluation on a CPU: 85 color images of 32 x 32, which its caches still hold."""

EVALUATION_VALUES = 2**22
"""The same on other devices, where few large batches are faster: 1365 color images of 32 x 32."""


@dataclass(frozen=True)
class Normalization:
    """The mean and the standard deviation of each channel, of pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Measure images ``[N, C, H, W]`` (bytes) by exact counts; the order of the images does not matter.

        Raises:
            InputError: all pixels of a channel are equal, so that nothing can be scaled.
        """
        return cls.of_counts(levels(images))

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> Normalization:
        """Measure from the count of each level in each channel, ``[C, 256]``; see `of`."""
        values = np.arange(256) / 255
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ values
        std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
        flat = np.flatnonzero((counts > 0).sum(axis=1) == 1)
        if flat.size:
            raise InputError(
                f"task: channel {flat[0]} has the same value in every training pixel, so that the images cannot "
                "be normalized; check the image files"
            )
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return the function that normalizes pixels ``[..., C, H, W]`` (bytes) on a device to float32.

        Pixels are divided by tensors, never by Python numbers, because a GPU multiplies by the reciprocal of a number.
        """
        scale = torch.tensor(255.0, device=device)
        mean = torch.tensor(self.mean, device=device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=device).view(-1, 1, 1)

        def normalized(pixels: Tensor) -> Tensor:
            values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
            return values.div_(scale).sub_(mean).div_(std)

        return normalized


def levels(images: Tensor) -> NDArray[np.int64]:
    """Return the count of each level in each channel of images ``[N, C, H, W]`` (bytes), ``[C, 256]``."""
    counts: NDArray[np.int64] = torch.stack(
        [torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]
    ).numpy()
    return counts


IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""ImageNet's, as torchvision's networks use them."""


@dataclass(frozen=True)
class Crops:
    """One crop a sample: its top row and left column in the padded image, and whether it is mirrored; each ``[N]``."""

    rows: Tensor
    columns: Tensor
    flips: Tensor


@dataclass(frozen=True)
class Augmentation:
    """Zero padding before a random crop of the original size, and a mirror image half of the time."""

    padding: int
    flip: bool

    def draw(self, samples: int, generator: torch.Generator) -> Crops:
        """Draw the crops of an epoch, by sample.

        Places and flips are always both drawn, so one option does not change the draws of the other.
        """
        rows, columns = torch.randint(0, 2 * self.padding + 1, (2, samples), generator=generator)
        flips = torch.randint(0, 2, (samples,), generator=generator)
        return Crops(rows, columns, flips if self.flip else torch.zeros_like(flips))

    def none(self, samples: int) -> Crops:
        """Return the crops that show every image as it is."""
        middle, plain = torch.full((samples,), self.padding), torch.zeros(samples, dtype=torch.int64)
        return Crops(middle, middle, plain)


def batch_bounds(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut an epoch into batches ``[start, stop)``; the last batch may be smaller, and no sample is dropped.

    A single remaining sample joins the previous batch: batch normalization cannot compute statistics of one value.
    """
    edges = [*range(0, samples, batch_size), samples]
    if len(edges) > 2 and samples % batch_size == 1:
        del edges[-2]
    return list(pairwise(edges))


def batch_count(samples: int, batch_size: int) -> int:
    """Return the number of batches of `batch_bounds`."""
    count = -(-samples // batch_size)
    return count - 1 if count > 1 and samples % batch_size == 1 else count


def evaluation_batch(shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many images of a shape an evaluation on a device takes at once."""
    values = CPU_EVALUATION_VALUES if device.type == "cpu" else EVALUATION_VALUES
    return max(1, values // torch.Size(shape).numel())
