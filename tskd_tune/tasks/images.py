"""Images that stay on the device as bytes; crop, flip and normalization are batched there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch
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
        """Measure images ``[N, C, H, W]`` (bytes); exact counts, so that no order of summation shows.

        Raises:
            InputError: all pixels of a channel are equal, so that nothing can be scaled.
        """
        values = np.arange(256) / 255
        counts = torch.stack([torch.bincount(c.flatten(), minlength=256) for c in images.unbind(1)]).numpy()
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
        """Draw the crops of an epoch, by sample; both kinds are always drawn, so that one does not move the other."""
        rows, columns = torch.randint(0, 2 * self.padding + 1, (2, samples), generator=generator)
        flips = torch.randint(0, 2, (samples,), generator=generator)
        return Crops(rows, columns, flips if self.flip else torch.zeros_like(flips))


def batch_bounds(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut an epoch into batches ``[start, stop)``; the last one may be smaller and no sample is dropped.

    A single left-over sample joins the batch before it: batch normalization cannot learn from one value.
    """
    edges = [*range(0, samples, batch_size), samples]
    if len(edges) > 2 and samples % batch_size == 1:
        del edges[-2]
    return list(pairwise(edges))


def batch_count(samples: int, batch_size: int) -> int:
    """Return how many batches `batch_bounds` cuts, without cutting them."""
    count = -(-samples // batch_size)
    return count - 1 if count > 1 and samples % batch_size == 1 else count


class ResidentImages:
    """Images and their classes on a device.

    A crop is one gather of bytes out of the padded images: its place is an offset into a fixed pattern of
    positions, one pattern for images as they are and one for mirrored ones. Normalization divides by tensors,
    never by Python numbers, because a GPU multiplies by the reciprocal of a number: so every device gives the
    bits of torchvision's ``RandomCrop``, ``RandomHorizontalFlip``, ``ToTensor`` and ``Normalize``.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        normalization: Normalization,
        *,
        padding: int = 0,
        device: torch.device,
    ) -> None:
        """Keep images ``[N, C, H, W]`` (bytes) and targets ``[N]`` on the device."""
        self.targets = targets.to(device)
        self._padding = padding
        self._padded = F.pad(images.to(device), (padding,) * 4).contiguous()
        self._height, self._width = images.shape[2:]
        self._scale = torch.tensor(255.0, device=device)
        self._mean = torch.tensor(normalization.mean, device=device).view(-1, 1, 1)
        self._std = torch.tensor(normalization.std, device=device).view(-1, 1, 1)
        # 32-bit positions are about a third faster; they reach 2 GiB of pixels.
        self._positions = torch.int32 if self._padded.numel() < 2**31 else torch.int64
        self._patterns = self._crop_patterns().to(device, self._positions)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def train_batches(
        self, order: torch.Generator, generator: torch.Generator, augmentation: Augmentation, batch_size: int
    ) -> Iterator[Batch]:
        """Iterate once over all images, shuffled and augmented.

        Everything random is drawn at the call, on the CPU, and moved to the device at once. The crop of a sample
        is the same whatever the order and the batch size.
        """
        device = self.targets.device
        shuffled = torch.randperm(len(self), generator=order)
        crops = augmentation.draw(len(self), generator)
        starts = self._starts(crops)[shuffled].to(device)
        flips = crops.flips[shuffled].to(device)
        return self._batches(shuffled.to(device), starts, flips, batch_size)

    def cropped(self, indices: Tensor, crops: Crops) -> Tensor:
        """Return images ``[B, C, H, W]`` of the samples ``[B]``, cropped as drawn for each sample and normalized."""
        device = self.targets.device
        starts = self._starts(crops)[indices.cpu()].to(device)
        return self._gather(starts, crops.flips[indices.cpu()].to(device))

    def evaluation_batches(self) -> Iterator[Batch]:
        """Iterate over all images in order, as they are, in batches that suit the device."""
        inner_rows = slice(self._padding, self._padding + self._height)
        inner_columns = slice(self._padding, self._padding + self._width)
        inner = self._padded[:, :, inner_rows, inner_columns]
        device = self.targets.device
        values = CPU_EVALUATION_VALUES if device.type == "cpu" else EVALUATION_VALUES
        size = max(1, values // inner.shape[1:].numel())
        indices = torch.arange(len(self), device=device)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Batch(self._normalized(inner[part]), self.targets[part], indices[part])

    def _batches(self, order: Tensor, starts: Tensor, flips: Tensor, batch_size: int) -> Iterator[Batch]:
        for start, stop in batch_bounds(len(self), batch_size):
            indices = order[start:stop]
            yield Batch(self._gather(starts[start:stop], flips[start:stop]), self.targets[indices], indices)

    def _gather(self, starts: Tensor, flips: Tensor) -> Tensor:
        positions = self._patterns.index_select(0, flips).add_(starts.unsqueeze(1))
        pixels = self._padded.flatten().index_select(0, positions.flatten())
        return self._normalized(pixels.view(-1, self._padded.shape[1], self._height, self._width))

    def _normalized(self, pixels: Tensor) -> Tensor:
        values = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        return values.div_(self._scale).sub_(self._mean).div_(self._std)

    def _starts(self, crops: Crops) -> Tensor:
        """Return where the crop of each sample begins in the flattened padded images, ``[N]``."""
        samples = torch.arange(len(self)) * self._padded.shape[1:].numel()
        return (samples + crops.rows * self._padded.shape[3] + crops.columns).to(self._positions)

    def _crop_patterns(self) -> Tensor:
        """Return the positions of a crop's pixels from its beginning, ``[2, C * H * W]``: plain and mirrored."""
        _, channels, height, width = self._padded.shape
        planes = torch.arange(channels).view(-1, 1, 1) * (height * width)
        rows = torch.arange(self._height).view(-1, 1) * width
        columns = torch.arange(self._width)
        return torch.stack([(planes + rows + order).flatten() for order in (columns, columns.flip(0))])
