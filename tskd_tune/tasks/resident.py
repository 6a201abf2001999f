"""Images that stay on the device as bytes; crop, flip and normalization are computed there, a batch at a time."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch
from tskd_tune.errors import InputError
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import AUGMENTATION, ORDER, Draw, Feed, Feeding, Source, Streams, TaskFacts
from tskd_tune.tasks.image_source import ImageSource
from tskd_tune.tasks.images import Augmentation, Crops, Normalization, batch_bounds, batch_count, evaluation_batch

BYTES_BESIDE = 32
"""What is kept of a sample beside its image: its class, and its place in the order of an epoch."""


@final
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
        self.shape = tuple(images.shape[1:])
        self.padding = padding
        self._padded = F.pad(images.to(device), (padding,) * 4).contiguous()
        self._height, self._width = images.shape[2:]
        self._normalized = normalization.on(device)
        # 32-bit positions are about a third faster; they reach 2 GiB of pixels.
        self._positions = torch.int32 if self._padded.numel() < 2**31 else torch.int64
        self._patterns = self._crop_patterns().to(device, self._positions)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.targets.device

    def starts(self, crops: Crops) -> Tensor:
        """Return where the crop of each sample begins in the flattened padded images, ``[N]``, on the CPU."""
        samples = torch.arange(len(self)) * self._padded.shape[1:].numel()
        return (samples + crops.rows * self._padded.shape[3] + crops.columns).to(self._positions)

    def cut(self, starts: Tensor, flips: Tensor) -> Tensor:
        """Return the normalized crops ``[B, C, H, W]`` at starts ``[B]``, mirrored where flips ``[B]`` are 1."""
        positions = self._patterns.index_select(0, flips).add_(starts.unsqueeze(1))
        pixels = self._padded.flatten().index_select(0, positions.flatten())
        return self._normalized(pixels.view(-1, *self.shape))

    def whole(self, indices: Tensor) -> Tensor:
        """Return the images ``[B, C, H, W]`` of the samples ``[B]`` without padding, normalized."""
        inner = self._padded.index_select(0, indices)
        edge = self.padding
        return self._normalized(inner[:, :, edge : edge + self._height, edge : edge + self._width])

    def _crop_patterns(self) -> Tensor:
        """Return the positions of a crop's pixels from its beginning, ``[2, C * H * W]``: plain and mirrored."""
        _, channels, height, width = self._padded.shape
        planes = torch.arange(channels).view(-1, 1, 1) * (height * width)
        rows = torch.arange(self._height).view(-1, 1) * width
        columns = torch.arange(self._width)
        return torch.stack([(planes + rows + order).flatten() for order in (columns, columns.flip(0))])


@dataclass(frozen=True, eq=False)
class ResidentParts:
    """The three parts of a data set on a device; only the training set is padded."""

    training: ResidentImages
    validation: ResidentImages
    test: ResidentImages


@final
class ResidentFeed(Feed):
    """The training set on the device: indices and crops are drawn for a whole epoch, a batch is one gather."""

    def __init__(self, parts: ResidentParts, augmentation: Augmentation, batch_size: int) -> None:
        """Feed the training set, padded as the augmentation needs, in batches of this size."""
        self._parts = parts  # the owner keeps all parts as long as one of their feeds lives
        self._images = parts.training
        self._augmentation = augmentation
        self._batch_size = batch_size

    @property
    def targets(self) -> Tensor:
        """The class of every sample ``[N]``, on the device."""
        return self._images.targets

    def steps(self) -> int:
        """Return the number of batches of one epoch."""
        return batch_count(len(self._images), self._batch_size)

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the draws of one epoch: all are on the device before the first batch is made.

        The crop of a sample is the same whatever the order and the batch size.
        """
        samples, device = len(self._images), self._images.device
        order, crops = torch.arange(samples), self._augmentation.none(samples)
        if streams is not None:
            order = torch.randperm(samples, generator=streams.generator(ORDER))
            crops = self._augmentation.draw(samples, streams.generator(AUGMENTATION))
        starts = self._images.starts(crops)[order].to(device)
        flips = crops.flips[order].to(device)
        indices = order.to(device)
        return (
            Draw({"indices": indices[first:stop], "starts": starts[first:stop], "flips": flips[first:stop]})
            for first, stop in batch_bounds(samples, self._batch_size)[start:]
        )

    def batch(self, draw: Draw) -> Batch:
        """Gather the crops of a draw."""
        indices = draw.tensors["indices"]
        images = self._images.cut(draw.tensors["starts"], draw.tensors["flips"])
        return Batch(images, self._images.targets[indices], indices)


@final
class WholeImages(Feed):
    """All images of a part in order, as they are, in batches that suit the device."""

    def __init__(self, parts: ResidentParts, part: Part) -> None:
        """Feed the validation or the test set."""
        self._parts = parts  # the owner keeps all parts as long as one of their feeds lives
        self._images = parts.validation if part == "validation" else parts.test
        self._batch_size = evaluation_batch(self._images.shape, self._images.device)

    @property
    def targets(self) -> Tensor:
        """The class of every sample ``[N]``, on the device."""
        return self._images.targets

    def steps(self) -> int:
        """Return the number of batches."""
        return -(-len(self._images) // self._batch_size)

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the indices of each batch; nothing is random."""
        indices = torch.arange(len(self._images), device=self._images.device)
        size = self._batch_size
        return (Draw({"indices": indices[first : first + size]}) for first in range(start * size, len(indices), size))

    def batch(self, draw: Draw) -> Batch:
        """Gather the images of a draw."""
        indices = draw.tensors["indices"]
        return Batch(self._images.whole(indices), self._images.targets[indices], indices)


@final
class Owner:
    """Holds data on devices once a process: whoever asks for the same data gets the same copy.

    The data that were asked for last stay, so that trainings that follow one another read them once. All other data are
    let go as soon as no feed holds them.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: weakref.WeakValueDictionary[tuple[str, ...], ResidentParts] = weakref.WeakValueDictionary()
        self._last: ResidentParts | None = None

    def parts(self, key: tuple[str, ...], read: Callable[[], ResidentParts]) -> ResidentParts:
        """Return the data of a key, which are read unless somebody holds them."""
        found = self._held.get(key)
        if found is None:
            self._last = None  # first, so that two data sets need not fit into memory at once
            found = self._held[key] = read()
        self._last = found
        return found

    def clear(self) -> None:
        """Let go of the data that were asked for last, and forget all others."""
        self._last = None
        self._held.clear()


OWNER = Owner()
"""The owner of this process."""


@final
@dataclass(frozen=True)
class Resident(Feeding):
    """All images are kept on the device as bytes."""

    augmentation: Augmentation
    batch_size: int

    def steps(self, samples: int) -> int:
        """Return the number of training batches."""
        return batch_count(samples, self.batch_size)

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set; the images are read unless this process holds them."""
        return ResidentFeed(self._parts(source, device), self.augmentation, self.batch_size)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set; the images are read unless this process holds them."""
        return WholeImages(self._parts(source, device), part)

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes of all images, of their classes and of their places in the order of an epoch."""
        return sum(facts.samples) * (math.prod(facts.image) + BYTES_BESIDE)

    def identity(self) -> Mapping[str, Json]:
        """Return the augmentation."""
        return {"augmentation": asdict(self.augmentation)}

    def _parts(self, source: Source, device: torch.device) -> ResidentParts:
        images = images_of(source)
        identity = json.dumps(images.identity(), sort_keys=True)
        key = (identity, images.location(), str(self.augmentation.padding), str(device))
        return OWNER.parts(key, lambda: self._read(images, device))

    def _read(self, source: ImageSource, device: torch.device) -> ResidentParts:
        parts = source.read()
        training, constants = parts.training, parts.normalization
        padding = self.augmentation.padding
        read = ResidentParts(
            ResidentImages(training.images, training.targets, constants, padding=padding, device=device),
            ResidentImages(parts.validation.images, parts.validation.targets, constants, device=device),
            ResidentImages(parts.test.images, parts.test.targets, constants, device=device),
        )
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # all trainings of the process may use the images, each in its own stream
        return read


def images_of(source: Source) -> ImageSource:
    """Return a source that must be one of images.

    Raises:
        InputError: the source has no images.
    """
    if not isinstance(source, ImageSource):
        raise InputError(
            f"task: its feeding needs images, but {type(source).__name__} is no ImageSource; derive the source from"
            " ImageSource, or write a feeding for it"
        )
    return source
