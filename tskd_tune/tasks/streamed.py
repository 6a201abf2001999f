"""Images that are decoded anew for each batch, by worker processes that hold no state.

The process of the training draws the crops of a whole epoch, by sample, as it does for images that stay on the device:
the crop of a sample is a function of seed, epoch and sample. Workers get the crops with the indices. So the numbers do
not depend on the number of workers, and an epoch can begin at any step.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tskd_tune.contracts import Batch
from tskd_tune.errors import InputError, RunError
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import AUGMENTATION, ORDER, Draw, Feed, Feeding, Samples, Source, Streams, TaskFacts
from tskd_tune.tasks.images import Augmentation, Crops, Normalization, batch_bounds, batch_count, evaluation_batch
from tskd_tune.tasks.resident import BYTES_BESIDE, images_of

MOST_WORKERS, PREFETCH = 4, 2
"""Processes that decode images for a training, and the batches that each prepares in advance, unless told otherwise."""


def default_workers() -> int:
    """Return how many processes decode images unless told otherwise: at most one for each CPU of this machine."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


class Crop(NamedTuple):
    """What a worker shall decode: a sample, the place of its crop, and whether the crop is mirrored."""

    sample: int
    row: int
    column: int
    flip: int


class Pixels(NamedTuple):
    """What workers made of a batch: indices ``[B]`` and bytes ``[B, C, H, W]``; or why they could not.

    Errors come back as text, because an error that crosses processes loses its sentence.
    """

    indices: Tensor
    pixels: Tensor
    wrong: str = ""
    vanished: str = ""


@final
class Cropped(Dataset[Pixels]):
    """Decodes samples, and cuts their crops out of the padded images."""

    def __init__(self, samples: Samples, padding: int) -> None:
        """Crop samples, padded with zeros on each side."""
        self._samples = samples
        self._padding = padding

    def __getitems__(self, crops: Sequence[Crop]) -> Pixels:
        """Return the batch of some crops."""
        indices = torch.tensor([crop.sample for crop in crops], dtype=torch.int64)
        try:
            return Pixels(indices, torch.stack([self._cut(crop) for crop in crops]))
        except InputError as error:
            return Pixels(indices, indices, wrong=str(error))
        except RunError as error:
            return Pixels(indices, indices, vanished=str(error))

    def __getitem__(self, crop: Crop) -> Pixels:
        """Return a batch of one crop."""
        return self.__getitems__([crop])

    def _cut(self, crop: Crop) -> Tensor:
        image = self._samples[crop.sample]
        height, width = image.shape[1:]
        padded = F.pad(image, (self._padding,) * 4)
        cut = padded[:, crop.row : crop.row + height, crop.column : crop.column + width]
        return cut.flip(2) if crop.flip else cut


@final
class Batches(Sampler[list[Crop]]):
    """The batches of the epoch at hand; set before a loader is iterated over, and read in the training's process."""

    def __init__(self) -> None:
        """Have no batches."""
        self.crops: Crops | None = None
        self.order = torch.zeros(0, dtype=torch.int64)
        self.bounds: Sequence[tuple[int, int]] = ()

    def __iter__(self) -> Iterator[list[Crop]]:
        """Iterate over the batches."""
        assert self.crops is not None
        columns = (self.order, *(part[self.order] for part in (self.crops.rows, self.crops.columns, self.crops.flips)))
        for start, stop in self.bounds:
            rows = zip(*(column[start:stop].tolist() for column in columns), strict=True)
            yield [Crop(*row) for row in rows]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.bounds)


@final
class StreamedFeed(Feed):
    """One part of the data, decoded by workers; they start with the first epoch, and end with the feed."""

    def __init__(
        self,
        samples: Samples,
        normalization: Normalization,
        bounds: Sequence[tuple[int, int]],
        *,
        augmentation: Augmentation,
        workers: int,
        prefetch: int,
        device: torch.device,
    ) -> None:
        """Feed samples in batches with these bounds ``[start, stop)``."""
        self._targets = samples.targets.to(device)
        self._normalized = normalization.on(device)
        self._bounds = bounds
        self._augmentation = augmentation
        self._device = device
        self._batches = Batches()
        self._loader = DataLoader(
            Cropped(samples, augmentation.padding),
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            worker_init_fn=_leave_signals if workers else None,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # else each epoch would draw a number from the global one, as networks do
        )

    @property
    def targets(self) -> Tensor:
        """The class of every sample ``[N]``, on the device."""
        return self._targets

    def steps(self) -> int:
        """Return the number of batches of one epoch."""
        return len(self._bounds)

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the draws of one epoch: bytes that workers decoded and cropped, in pinned memory for a GPU.

        Only one epoch of a feed can be under way; a further call ends the epoch before.
        """
        samples = len(self._targets)
        order, crops = torch.arange(samples), self._augmentation.none(samples)
        if streams is not None:
            order = torch.randperm(samples, generator=streams.generator(ORDER))
            crops = self._augmentation.draw(samples, streams.generator(AUGMENTATION))
        return self._loaded(order, crops, self._bounds[start:])

    def batch(self, draw: Draw) -> Batch:
        """Bring the bytes of a draw to the device, and normalize them there."""
        indices = draw.tensors["indices"].to(self._device, non_blocking=True)
        pixels = draw.tensors["pixels"].to(self._device, non_blocking=True)
        return Batch(self._normalized(pixels), self._targets[indices], indices)

    def _loaded(self, order: Tensor, crops: Crops, bounds: Sequence[tuple[int, int]]) -> Iterator[Draw]:
        self._batches.order, self._batches.crops, self._batches.bounds = order, crops, bounds
        for found in _from_workers(self._loader):
            if found.wrong:
                raise InputError(found.wrong)
            if found.vanished:
                raise RunError(found.vanished)
            yield Draw({"indices": found.indices, "pixels": found.pixels})


def _from_workers(loader: Iterable[Pixels]) -> Iterator[Pixels]:
    """Iterate over what the workers decoded.

    Raises:
        RunError: a worker died.
    """
    found = iter(loader)
    while True:
        try:
            batch = next(found)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):  # an error of the samples' own code
                raise
            raise RunError(
                f"task: a process that decodes images ended ({error}); lower task.workers or task.prefetch, or free"
                " some memory"
            ) from error
        yield batch


@final
@dataclass(frozen=True)
class Streamed(Feeding):
    """Images are decoded anew for each batch; neither the device nor the memory holds all of them."""

    augmentation: Augmentation
    batch_size: int
    workers: int
    prefetch: int

    def steps(self, samples: int) -> int:
        """Return the number of training batches."""
        return batch_count(samples, self.batch_size)

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set; no image is decoded unless the normalization has to be measured."""
        images = images_of(source)
        samples = images.samples("training")
        bounds = batch_bounds(len(samples), self.batch_size)
        return self._feed(samples, images.normalization(), bounds, self.augmentation, device)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set, in the batches of the resident feed."""
        images = images_of(source)
        samples, facts = images.samples(part), images.facts()
        size = evaluation_batch(facts.image, device)
        bounds = list(pairwise([*range(0, len(samples), size), len(samples)]))
        return self._feed(samples, images.normalization(), bounds, Augmentation(0, flip=False), device)

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes of the classes and the order; images are not held."""
        return sum(facts.samples) * BYTES_BESIDE

    def identity(self) -> Mapping[str, Json]:
        """Return the augmentation, as of images that stay on the device: the numbers are the same."""
        return {"augmentation": asdict(self.augmentation)}

    def _feed(
        self,
        samples: Samples,
        normalization: Normalization,
        bounds: Sequence[tuple[int, int]],
        augmentation: Augmentation,
        device: torch.device,
    ) -> Feed:
        workers = min(self.workers, len(bounds))
        return StreamedFeed(
            samples,
            normalization,
            bounds,
            augmentation=augmentation,
            workers=workers,
            prefetch=self.prefetch,
            device=device,
        )


def _as_it_is(batch: object) -> object:
    """Take a batch as `Cropped` made it."""
    return batch


def _leave_signals(worker: int) -> None:
    """Let a worker outlive Ctrl-C, which goes to every process of a terminal, so that the training can end its epoch.

    A worker ends with the process of its training.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
