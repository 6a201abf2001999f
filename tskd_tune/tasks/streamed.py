"""Images that are decoded anew for each batch, by worker processes that hold no state.

The process of the training draws the crops of a whole epoch, by sample, as it does for images that stay on the device:
the crop of a sample is a function of seed, epoch and sample. Workers get the crops with the indices. So the numbers do
not depend on the number of workers, and an epoch can begin at any step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tskd_tune.contracts import Batch
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import AUGMENTATION, ORDER, Draw, Feed, Feeding, Samples, Source, Streams, TaskFacts
from tskd_tune.tasks.cuts import Cut
from tskd_tune.tasks.decoders import Decoded, decoded, decoding, draws_of
from tskd_tune.tasks.images import IMAGENET, Normalization, batch_bounds, batch_count, evaluation_batch
from tskd_tune.tasks.resident import BYTES_BESIDE, images_of
from tskd_tune.tasks.shards import Shard


class Crop(NamedTuple):
    """What a worker shall decode: a sample, and the numbers that were drawn for it; see `Cut`."""

    sample: int
    drawn: Sequence[int]


@final
class Cropped(Dataset[Decoded]):
    """Decodes samples, and cuts out what was drawn for them."""

    def __init__(self, samples: Samples, cut: Cut) -> None:
        """Cut samples."""
        self._samples = samples
        self._cut = cut

    def __getitems__(self, crops: Sequence[Crop]) -> Decoded:
        """Return the batch of some crops: their indices ``[B]`` and bytes ``[B, C, H, W]``."""
        indices = torch.tensor([crop.sample for crop in crops], dtype=torch.int64)
        return decoded(
            lambda: {
                "indices": indices,
                "pixels": torch.stack([self._cut.of(self._samples, *crop) for crop in crops]),
            }
        )

    def __getitem__(self, crop: Crop) -> Decoded:
        """Return a batch of one crop."""
        return self.__getitems__([crop])


@final
class Batches(Sampler[list[Crop]]):
    """The batches of the epoch at hand; set before a loader is iterated over, and read in the training's process."""

    def __init__(self) -> None:
        """Have no batches."""
        self.drawn = torch.zeros(0, 0, dtype=torch.int64)
        self.order = torch.zeros(0, dtype=torch.int64)
        self.bounds: Sequence[tuple[int, int]] = ()

    def __iter__(self) -> Iterator[list[Crop]]:
        """Iterate over the batches."""
        for start, stop in self.bounds:
            samples = self.order[start:stop]
            yield list(map(Crop, samples.tolist(), self.drawn[samples].tolist()))

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
        cut: Cut,
        workers: int,
        prefetch: int,
        device: torch.device,
    ) -> None:
        """Feed samples in batches with these bounds ``[start, stop)``."""
        self._targets = samples.targets.to(device)
        self._normalized = normalization.on(device)
        self._bounds = bounds
        self._cut = cut
        self._device = device
        self._shard = Shard(rank=0, world=1)
        self._batches = Batches()
        self._loader = decoding(Cropped(samples, cut), self._batches, workers, prefetch, device)

    def shard(self, shard: Shard) -> StreamedFeed:
        """Return the feed of one worker, which decodes its share of each batch alone; this feed must not be used."""
        twin = copy.copy(self)
        twin._shard = shard
        return twin

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
        order, drawn = torch.arange(samples), self._cut.none(samples)
        if streams is not None:
            order = torch.randperm(samples, generator=streams.generator(ORDER))
            drawn = self._cut.draw(samples, streams.generator(AUGMENTATION))
        return self._loaded(order, drawn, self._bounds[start:])

    def batch(self, draw: Draw) -> Batch:
        """Bring the bytes of a draw to the device, and normalize them there."""
        indices = draw.tensors["indices"].to(self._device, non_blocking=True)
        pixels = draw.tensors["pixels"].to(self._device, non_blocking=True)
        return Batch(self._normalized(pixels), self._targets[indices], indices)

    def _loaded(self, order: Tensor, drawn: Tensor, bounds: Sequence[tuple[int, int]]) -> Iterator[Draw]:
        self._batches.order, self._batches.drawn = order, drawn
        self._batches.bounds = [self._shard.of(start, stop) for start, stop in bounds]
        sizes = [self._shard.sizes(stop - start) for start, stop in bounds]
        return draws_of(self._loader, sizes)


@final
@dataclass(frozen=True)
class Streamed(Feeding):
    """Images are decoded anew for each batch; neither the device nor the memory holds all of them.

    Attributes:
        training_cut: what is drawn and cut for the training set.
        evaluation_cut: the same for evaluations, where nothing is random.
        batch_size: images in a training batch.
        workers: processes that decode.
        prefetch: batches that each of them prepares in advance.
        least: images that an evaluation takes at once at least; more where images are small.
    """

    training_cut: Cut
    evaluation_cut: Cut
    batch_size: int
    workers: int
    prefetch: int
    least: int = 1

    def steps(self, samples: int) -> int:
        """Return the number of training batches."""
        return batch_count(samples, self.batch_size)

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set; no image is decoded unless the normalization has to be measured."""
        images = images_of(source)
        samples = images.samples("training")
        bounds = batch_bounds(len(samples), self.batch_size)
        return self._feed(samples, images.normalization(), bounds, self.training_cut, device)

    def sampled(self, source: Source, device: torch.device) -> Feed:
        """Open the training set with ImageNet's constants: a measured normalization would read all images."""
        samples = images_of(source).samples("training")
        return self._feed(samples, IMAGENET, batch_bounds(len(samples), self.batch_size), self.training_cut, device)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set, in the batches of the resident feed."""
        images = images_of(source)
        samples, facts = images.samples(part), images.facts()
        size = max(self.least, evaluation_batch(facts.image, device))
        bounds = list(pairwise([*range(0, len(samples), size), len(samples)]))
        return self._feed(samples, images.normalization(), bounds, self.evaluation_cut, device)

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes of the classes and the order; images are not held."""
        return sum(facts.samples) * BYTES_BESIDE

    def identity(self) -> Mapping[str, Json]:
        """Return the augmentation, as of images that stay on the device: the numbers are the same."""
        return {"augmentation": dict(self.training_cut.identity())}

    def _feed(
        self,
        samples: Samples,
        normalization: Normalization,
        bounds: Sequence[tuple[int, int]],
        cut: Cut,
        device: torch.device,
    ) -> Feed:
        workers = min(self.workers, len(bounds))
        return StreamedFeed(
            samples,
            normalization,
            bounds,
            cut=cut,
            workers=workers,
            prefetch=self.prefetch,
            device=device,
        )
