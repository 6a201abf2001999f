"""Images of different sizes with boxes: scaled and mirrored by worker processes, padded to one size for each batch.

The process of the training draws scale and mirror image of a whole epoch, by sample, so what is drawn for a sample is a
function of seed, epoch and sample. The sizes of all images are annotated, so the size of a padded batch is known before
an image is decoded: it does not depend on the workers, nor on how a data-parallel training shares the batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tskd_tune.contracts import Batch, Boxes
from tskd_tune.errors import InputError
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import AUGMENTATION, ORDER, Draw, Feed, Feeding, Source, Streams, TaskFacts
from tskd_tune.tasks.boxed_images import BoxedImages
from tskd_tune.tasks.boxed_parts import BoxedPart
from tskd_tune.tasks.decoders import Decoded, decoded, decoding, draws_of
from tskd_tune.tasks.images import IMAGENET, batch_bounds, batch_count
from tskd_tune.tasks.resident import BYTES_BESIDE
from tskd_tune.tasks.scaling import Scaling
from tskd_tune.tasks.shards import Shard

TYPICAL_OF = 101
"""Batches whose sizes are looked at for that of a usual one."""


class View(NamedTuple):
    """What a worker shall make of a sample, and the shape of the batch that it belongs to."""

    sample: int
    height: int
    width: int
    flip: int
    canvas: tuple[int, int]
    boxes: int


@final
class Viewed(Dataset[Decoded]):
    """Decodes samples, scales and mirrors them with their boxes, and pads them."""

    def __init__(self, part: BoxedPart) -> None:
        """View the images of a part."""
        self._part = part

    def __getitems__(self, views: Sequence[View]) -> Decoded:
        """Return the batch of some views, which belong to one batch."""
        return decoded(lambda: self._made(views))

    def __getitem__(self, view: View) -> Decoded:
        """Return a batch of one view."""
        return self.__getitems__([view])

    def _made(self, views: Sequence[View]) -> dict[str, Tensor]:
        count, most, (height, width) = len(views), views[0].boxes, views[0].canvas
        batch = {
            "indices": torch.tensor([view.sample + self._part.offset for view in views]),
            "pixels": torch.zeros(count, 3, height, width, dtype=torch.uint8),
            "sizes": torch.tensor([(view.height, view.width) for view in views]),
            "corners": torch.zeros(count, most, 4),
            "labels": torch.full((count, most), -1),
            "crowd": torch.zeros(count, most, dtype=torch.bool),
            "counts": torch.tensor([self._part.counts[view.sample] for view in views]),
        }
        for row, view in enumerate(views):
            self._fill(batch, row, view)
        return batch

    def _fill(self, batch: dict[str, Tensor], row: int, view: View) -> None:
        image = self._part.picture(view.sample)
        before = (image.width, image.height)
        image = image.resize((view.width, view.height), Image.Resampling.BILINEAR)
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else image
        batch["pixels"][row, :, : view.height, : view.width] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        corners, labels, crowd = self._part.boxes(view.sample)
        batch["corners"][row, : len(labels)] = torch.from_numpy(_moved(corners, before, view))
        batch["labels"][row, : len(labels)] = torch.from_numpy(labels)
        batch["crowd"][row, : len(labels)] = torch.from_numpy(crowd)


def _moved(corners: NDArray[np.float32], before: tuple[int, int], view: View) -> NDArray[np.float32]:
    """Return where boxes lie after scaling and mirroring, ``[n, 4]``."""
    scale = np.array([view.width / before[0], view.height / before[1]] * 2)
    limits = np.array([view.width, view.height] * 2)
    moved: NDArray[np.float32] = (corners * scale).clip(0, limits).astype(np.float32)
    if view.flip:
        moved[:, [0, 2]] = view.width - moved[:, [2, 0]]
    return moved


@final
class Planned(Sampler[list[View]]):
    """The views of each batch of the epoch at hand; set before a loader is iterated over."""

    def __init__(self) -> None:
        """Have no batches."""
        self.batches: Sequence[list[View]] = ()

    def __iter__(self) -> Iterator[list[View]]:
        """Iterate over the batches."""
        return iter(self.batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)


@final
class PaddedFeed(Feed):
    """One part of the data, decoded by workers; they start with the first epoch, and end with the feed."""

    def __init__(
        self,
        part: BoxedPart,
        bounds: Sequence[tuple[int, int]],
        *,
        scaling: Scaling,
        workers: int,
        prefetch: int,
        device: torch.device,
    ) -> None:
        """Feed the images of a part in batches with these bounds ``[start, stop)``."""
        self._part = part
        self._bounds = bounds
        self._scaling = scaling
        self._device = device
        self._normalized = IMAGENET.on(device)
        self._shard = Shard(rank=0, world=1)
        self._planned = Planned()
        self._loader = decoding(Viewed(part), self._planned, workers, prefetch, device)

    def shard(self, shard: Shard) -> PaddedFeed:
        """Return the feed of one worker, which decodes its share of each batch alone; this feed must not be used."""
        twin = copy.copy(self)
        twin._shard = shard
        return twin

    @property
    def targets(self) -> Tensor:
        """Nothing, ``[0]``: a sample has boxes and no class of its own."""
        return torch.zeros(0, dtype=torch.int64, device=self._device)

    def steps(self) -> int:
        """Return the number of batches of one epoch."""
        return len(self._bounds)

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the draws of one epoch: padded bytes and boxes, in pinned memory for a GPU.

        Only one epoch of a feed can be under way; a further call ends the epoch before.
        """
        samples = len(self._part)
        order, drawn = np.arange(samples), self._scaling.none(samples)
        if streams is not None:
            order = torch.randperm(samples, generator=streams.generator(ORDER)).numpy()
            drawn = self._scaling.draw(samples, streams.generator(AUGMENTATION))
        sizes = self._scaling.scaled(self._part.sizes, drawn[:, 0])
        plans = [self._plan(order[first:stop], sizes, drawn[:, 1]) for first, stop in self._bounds[start:]]
        shares = [self._shard.sizes(len(plan)) for plan in plans]
        self._planned.batches = [plan[slice(*self._shard.of(0, len(plan)))] for plan in plans]
        return draws_of(self._loader, shares)

    def batch(self, draw: Draw) -> Batch[Boxes]:
        """Bring a draw to the device, normalize its pixels there, and set its padding to zero."""
        on = {name: tensor.to(self._device, non_blocking=True) for name, tensor in draw.tensors.items()}
        images = self._normalized(on["pixels"]) * within(on["sizes"], on["pixels"].shape[2:]).unsqueeze(1)
        boxes = Boxes(on["corners"], on["labels"], on["crowd"], on["counts"])
        return Batch(images, boxes, on["indices"], on["sizes"])

    def _plan(self, samples: NDArray[np.int64], sizes: NDArray[np.int64], flips: NDArray[np.int64]) -> list[View]:
        canvas, most = self._scaling.canvas(sizes[samples]), int(self._part.counts[samples].max())
        numbers = zip(samples.tolist(), *sizes[samples].T.tolist(), flips[samples].tolist(), strict=True)
        return [View(sample, height, width, flip, canvas, most) for sample, height, width, flip in numbers]


def within(sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """Tell which pixels of padded images ``[B, H, W]`` belong to the images of these sizes ``[B, 2]``."""
    rows, columns = (torch.arange(length, device=sizes.device) for length in shape)
    return (rows < sizes[:, :1]).unsqueeze(2) & (columns < sizes[:, 1:]).unsqueeze(1)


@final
@dataclass(frozen=True)
class Padded(Feeding):
    """Images with boxes are decoded anew for each batch, and padded to one size.

    Attributes:
        batch_size: images of a batch, of a training and of an evaluation.
        workers: processes that decode images; 0 decodes in the training's own process.
        prefetch: batches that each of them prepares in advance.
    """

    scaling: Scaling
    batch_size: int
    workers: int
    prefetch: int

    def steps(self, samples: int) -> int:
        """Return the number of training batches."""
        return batch_count(samples, self.batch_size)

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set; no image is decoded."""
        part = _boxed(source).parts.training
        return self._feed(part, batch_bounds(len(part), self.batch_size), self.scaling, device)

    def sampled(self, source: Source, device: torch.device) -> Feed:
        """Open the training set, of which no image is read yet."""
        return self.training(source, device)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set; no image is decoded."""
        parts = _boxed(source).parts
        images = parts.validation if part == "validation" else parts.test
        bounds = list(pairwise([*range(0, len(images), self.batch_size), len(images)]))
        return self._feed(images, bounds, self.scaling.plain(), device)

    def typical(self, part: BoxedPart) -> tuple[int, int]:
        """Return height and width of a usual batch of a training set, of which some batches are drawn."""
        random = torch.Generator().manual_seed(0)
        order = torch.randperm(len(part), generator=random).numpy()
        sizes = self.scaling.scaled(part.sizes, self.scaling.draw(len(part), random)[:, 0])[order]
        bounds = batch_bounds(len(part), self.batch_size)[:TYPICAL_OF]
        shapes = sorted((self.scaling.canvas(sizes[start:stop]) for start, stop in bounds), key=math.prod)
        return shapes[len(shapes) // 2]

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes of the order; images are not held."""
        return sum(facts.samples) * BYTES_BESIDE

    def identity(self) -> Mapping[str, Json]:
        """Return scaling and augmentation."""
        return {"augmentation": {**asdict(self.scaling), "multi_scale": list(self.scaling.multi_scale)}}

    def _feed(self, part: BoxedPart, bounds: Sequence[tuple[int, int]], scaling: Scaling, device: torch.device) -> Feed:
        workers = min(self.workers, len(bounds))
        return PaddedFeed(part, bounds, scaling=scaling, workers=workers, prefetch=self.prefetch, device=device)


def _boxed(source: Source) -> BoxedImages:
    """Return a source that must be one of images with boxes.

    Raises:
        InputError: the source has none.
    """
    if not isinstance(source, BoxedImages):
        raise InputError(
            f"task: its feeding needs images with boxes, but {type(source).__name__} is no BoxedImages; derive the"
            " source from BoxedImages, or write a feeding for it"
        )
    return source
