"""Regression of ``y = x^2``: the smallest task, made from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from tskd_tune.contracts import Batch
from tskd_tune.errors import InputError
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import ORDER, TASKS, Draw, Feed, Feeding, Source, Streams, Task, TaskFacts, summary_of
from tskd_tune.tasks.image_source import DataPart
from tskd_tune.tasks.images import batch_bounds, batch_count
from tskd_tune.tasks.options import BatchSize
from tskd_tune.tasks.regression import Regression
from tskd_tune.tasks.summary import DataSummary

BYTES = 24
"""What is kept of a point: its place, its value and its number."""


@TASKS.register("quadratic", source="made up: y = x^2 on [-1, 1], as in figure 1 of the TSKD paper")
def quadratic(
    *,
    batch_size: BatchSize = 32,
    train: PositiveInt = 256,
    validation: NonNegativeInt = 0,
    test: PositiveInt = 256,
    data_seed: NonNegativeInt = 0,
) -> Task:
    """Points of a parabola, each an image of one channel and one pixel: a regression with the mean squared error.

    Training and test points are drawn uniformly from [-1, 1]. The validation points divide [-1, 1] evenly, its ends
    included.

    Args:
        train: number of training points.
        validation: number of validation points; 21 are -1, -0.9, ..., 1.
        test: number of test points.
        data_seed: seed of the training and of the test points.
    """
    return Task(Parabola((train, validation, test), data_seed), Regression(), ResidentPoints(batch_size))


@dataclass(frozen=True)
class Points:
    """Points ``[N, 1, 1, 1]`` and their values ``[N, 1]``, float32."""

    places: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of points, N."""
        return len(self.places)

    def __getitem__(self, index: int) -> Tensor:
        """Return one point ``[1, 1, 1]``."""
        return self.places[index]


@final
class Parabola(Source):
    """Points of ``y = x^2``."""

    def __init__(self, samples: tuple[int, int, int], seed: int) -> None:
        """Take the numbers of training, validation and test points, and the seed of those that are drawn."""
        self._samples = samples
        self._seed = seed

    def facts(self) -> TaskFacts:
        """Return the facts that the options give."""
        return TaskFacts((1, 1, 1), outputs=1, samples=self._samples, classes=False)

    def summary(self) -> DataSummary:
        """Return the facts that the options give."""
        return summary_of(self.facts(), "points of y = x^2, made from task.data_seed")

    def samples(self, part: DataPart) -> Points:
        """Make the points of one part."""
        training, validation, test = self._samples
        drawn = 2 * torch.rand(training + test, generator=torch.Generator().manual_seed(self._seed)) - 1
        parts = {
            "training": drawn[:training],
            "validation": torch.linspace(-1, 1, validation),
            "test": drawn[training:],
        }
        x = parts[part]
        return Points(x.view(-1, 1, 1, 1), x.square().unsqueeze(1))

    def identity(self) -> Mapping[str, Json]:
        """Return everything that the points are made from."""
        return {"data": "quadratic", "samples": self._samples, "seed": self._seed}

    def verify(self) -> Sequence[str]:
        """Return nothing: the points are computed."""
        return []


@final
class PointFeed(Feed):
    """Points on the device: in an order that is drawn for a training, otherwise as they are."""

    def __init__(self, points: Points, batch_size: int, device: torch.device) -> None:
        """Feed the points in batches of this size."""
        self._places, self._targets = points.places.to(device), points.targets.to(device)
        self._batch_size = batch_size

    @property
    def targets(self) -> Tensor:
        """The value of every point ``[N, 1]``, on the device."""
        return self._targets

    def steps(self) -> int:
        """Return the number of batches of one epoch."""
        return batch_count(len(self._places), self._batch_size)

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the indices of each batch."""
        order = torch.arange(len(self._places))
        if streams is not None:
            order = torch.randperm(len(order), generator=streams.generator(ORDER))
        indices = order.to(self._places.device)
        bounds = batch_bounds(len(order), self._batch_size)[start:]
        return (Draw({"indices": indices[first:stop]}) for first, stop in bounds)

    def batch(self, draw: Draw) -> Batch:
        """Gather the points of a draw."""
        indices = draw.tensors["indices"]
        return Batch(self._places[indices], self._targets[indices], indices)


@final
@dataclass(frozen=True)
class ResidentPoints(Feeding):
    """All points are kept on the device."""

    batch_size: int

    def steps(self, samples: int) -> int:
        """Return the number of training batches."""
        return batch_count(samples, self.batch_size)

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set."""
        return PointFeed(_points(source, "training"), self.batch_size, device)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set, as one batch."""
        points = _points(source, part)
        return PointFeed(points, max(1, len(points)), device)

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes of all points."""
        return sum(facts.samples) * BYTES

    def identity(self) -> Mapping[str, Json]:
        """Return nothing: no point is changed."""
        return {}


def _points(source: Source, part: DataPart) -> Points:
    if not isinstance(source, Parabola):
        raise InputError(f"task: its feeding needs points, but {type(source).__name__} has none; use Parabola")
    return source.samples(part)
