"""A small detector and its task, with which the contracts try components on the output of a detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import final

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Batch, BatchNormStatistics, Boxes, Detected, Features
from tskd_tune.errors import RunError
from tskd_tune.metrics import PERCENT, Metric, Part
from tskd_tune.networks.base import Network
from tskd_tune.plain import Json
from tskd_tune.tasks.base import (
    PLACES,
    Draw,
    Feed,
    Feeding,
    Objective,
    Samples,
    Source,
    Streams,
    Task,
    TaskFacts,
    summary_of,
)
from tskd_tune.tasks.shards import part_of
from tskd_tune.tasks.summary import DataSummary

CLASSES, SIDE = 3, 32
LEVELS = 4  # channels of the pyramid
SIZES = torch.tensor([[32, 32], [24, 32], [32, 16], [20, 28]])
"""The true sizes of the images of a batch, which are padded to 32 x 32 pixels."""


@final
class SmallDetector(Network[Detected]):
    """Four stages of one convolution each, two levels, proposals at fixed places, and a linear box head."""

    cuttable = True
    capturable = False
    takes_batch = True

    def __init__(self, classes: int, channels: int = 3, *, width: PositiveInt = 4) -> None:
        """Detect objects of so many classes.

        Args:
            classes: the number of classes.
            channels: the channels of an image.
            width: channels of the first two stages; the others have twice as many.
        """
        super().__init__()
        widths = [channels, *(width * factor for factor in (1, 1, 2, 2))]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, made, 3, stride=2, padding=1), nn.BatchNorm2d(made), nn.ReLU())
            for given, made in pairwise(widths)
        )
        self.levels = nn.ModuleList(nn.Conv2d(made, LEVELS, 1) for made in widths[3:])
        self.box_head = nn.Linear(LEVELS * 4, classes + 1)

    def forward(self, images: Tensor, batch: Batch[Boxes] | None = None, *, heads: bool = True) -> Detected | Features:
        """Map images ``[B, 3, H, W]`` to their output; the losses need a batch and train mode."""
        features: dict[str, Tensor] = {}
        maps = images
        for number, stage in enumerate(self.stages, start=1):
            maps = features[f"stage{number}"] = stage(maps)
        for number, level in enumerate(self.levels):
            features[f"fpn{number}"] = level(features[f"stage{number + 3}"])
        if not heads:
            return Features(features, {})
        proposals, classify = _proposals(images, batch), partial(self._classified, features["fpn0"], images.shape[-1])
        losses = {}
        if self.training and batch is not None:
            labels = torch.cat(
                [row[:count] for row, count in zip(batch.targets.labels, batch.targets.counts, strict=True)]
            )
            losses["classifier"] = nn.functional.cross_entropy(classify(batch.targets), labels + 1)
        found = Boxes.padded([images.new_zeros(0, 4)] * len(images), scores=[images.new_zeros(0)] * len(images))
        return Detected(features, {}, losses, proposals, found, classify)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        """Return none: no stage has a pre-activation."""
        return {}

    def _classified(self, level: Tensor, pixels: int, boxes: Boxes) -> Tensor:
        from torchvision.ops import roi_align

        corners = [one.to(level.dtype) for one in boxes.of_images()]
        pooled = roi_align(level, corners, 2, level.shape[-1] / pixels)
        logits: Tensor = self.box_head(pooled.flatten(1))
        return logits


def _proposals(images: Tensor, batch: Batch[Boxes] | None) -> Boxes:
    """Return boxes at fixed places in each image, one to three, by the size of the image."""
    whole = [list(images.shape[2:])] * len(images)
    sizes = whole if batch is None or batch.sizes is None else batch.sizes.tolist()
    places = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0], [0.5, 0.0, 1.0, 0.75]], device=images.device)
    scales = [places.new_tensor([width, height, width, height]) for height, width in sizes]
    return Boxes.padded([places[: 1 + int(scale[:2].sum()) % 3] * scale for scale in scales])


def small_batch(seed: int, sizes: Tensor = SIZES, device: torch.device | None = None) -> Batch[Boxes]:
    """Return random images of ``sizes`` with two objects and a crowd each, padded to multiples of 32 pixels."""
    source = torch.Generator().manual_seed(seed)
    height, width = (-(-int(side) // SIDE) * SIDE for side in sizes.amax(0))
    images = torch.zeros(len(sizes), 3, height, width)
    corners = []
    for image, (rows, columns) in zip(images, sizes.tolist(), strict=True):
        image[:, :rows, :columns] = torch.randn(3, rows, columns, generator=source)
        ends = torch.rand(2, 2, 2, generator=source).sort(1).values  # object, first and last, x and y
        places = (ends * torch.tensor([columns, rows])).flatten(1)
        corners.append(torch.cat([places, torch.tensor([[0.0, 0.0, columns, rows]])]).to(device))
    labels = [torch.tensor([0, 1, 2], device=device)] * len(sizes)
    crowds = [torch.tensor([False, False, True], device=device)] * len(sizes)
    boxes = Boxes.padded(corners, labels, crowd=crowds)
    return Batch(images.to(device), boxes, torch.arange(len(sizes), device=device), sizes.to(device))


class _Nothing(Source):
    """A source of random images, which a feed makes itself."""

    def __init__(self, images: int, tested: int) -> None:
        self._samples = (images, 0, tested)

    def facts(self) -> TaskFacts:
        return TaskFacts((3, None, None), CLASSES, self._samples, classes=False, boxes=True)

    def identity(self) -> Mapping[str, Json]:
        return {"source": "small_detection"}

    def samples(self, part: Part) -> Samples:
        raise RunError("task: the small detection has no samples that can be read one by one; use its feed")

    def summary(self) -> DataSummary:
        return summary_of(self.facts())

    def verify(self) -> Sequence[str]:
        return ()


class _Losses(Objective[Detected]):
    """The detector's own losses; the metric is the number of images."""

    capturable = False

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        return (Metric("seen", "images", PERCENT, "max"),)

    def losses(self, output: Detected, batch: AnyBatch) -> Mapping[str, Tensor]:
        return output.losses

    def meter(self, facts: TaskFacts) -> _Seen:
        return _Seen()


class _Seen:
    """Counts images."""

    def __init__(self) -> None:
        self._images = 0

    def update(self, output: Detected, batch: AnyBatch) -> None:
        self._images += len(batch.images)

    def compute(self) -> dict[str, float]:
        return {"seen": float(self._images)}


class _Made(Feed):
    """Batches that their number determines, of images of the same sizes."""

    def __init__(self, sizes: Tensor, batches: int, device: torch.device) -> None:
        self._sizes = sizes
        self._batches = batches
        self._device = device

    @property
    def targets(self) -> Tensor:
        return torch.zeros(0, dtype=torch.long, device=self._device)

    def steps(self) -> int:
        return self._batches

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        order = torch.arange(self._batches)
        if streams is not None:
            order = torch.randperm(self._batches, generator=streams.generator("order"))
        places = torch.arange(len(self._sizes))
        return iter([Draw({"number": number.expand(len(places)), "place": places}) for number in order[start:]])

    def batch(self, draw: Draw) -> AnyBatch:
        batch = small_batch(int(draw.tensors["number"][0]), self._sizes, self._device)
        places = draw.tensors["place"]
        return part_of(batch, int(places[0]), int(places[-1]) + 1)


class _Feeding(Feeding):
    """Feeds images of the same sizes in each batch."""

    def __init__(self, sizes: Tensor) -> None:
        self._sizes = sizes

    def steps(self, samples: int) -> int:
        return samples // len(self._sizes)

    def training(self, source: Source, device: torch.device) -> Feed:
        return self._feed(source.facts().samples[0], device)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        return self._feed(source.facts().samples[PLACES[part]], device)

    def bytes_held(self, facts: TaskFacts) -> int:
        return 0

    def identity(self) -> Mapping[str, Json]:
        return {}

    def _feed(self, samples: int, device: torch.device) -> Feed:
        return _Made(self._sizes, self.steps(samples), device)


def small_detection(sizes: Tensor = SIZES, batches: int = 2) -> Task[Detected]:
    """Return a task of random images for detectors of three classes.

    Args:
        sizes: ``[B, 2]``, height and width of the images of each batch.
        batches: the batches of an epoch; one batch is tested.
    """
    return Task(_Nothing(batches * len(sizes), len(sizes)), _Losses(), _Feeding(sizes))
