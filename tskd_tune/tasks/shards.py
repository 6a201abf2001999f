"""The shares of a batch that the workers of a data-parallel training compute.

Order and augmentation are drawn for the whole batch, from the same streams by every worker; then each takes its share.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Protocol, final, runtime_checkable

from torch import Tensor

from tskd_tune.contracts import AnyBatch, Batch
from tskd_tune.errors import RunError
from tskd_tune.tasks.base import Draw, Feed, Streams


@final
@dataclass(frozen=True)
class Shard:
    """Which share of each batch a worker computes: shares are contiguous, in the order of the ranks.

    >>> Shard(rank=1, world=2).sizes(5)
    (2, 3)
    >>> Shard(rank=1, world=2).of(10, 15)
    (12, 15)

    Attributes:
        rank: the number of the worker, from 0.
        world: the number of workers.
        least: the fewest samples of a share; a smaller batch is not split, and every worker computes the whole of it.
    """

    rank: int
    world: int
    least: int = 1

    def sizes(self, count: int) -> tuple[int, ...]:
        """Return how many samples of a batch each worker computes; empty for a batch that is not split."""
        if count < self.least * self.world:
            return ()
        return tuple(stop - start for start, stop in pairwise(edges(count, self.world)))

    def of(self, start: int, stop: int) -> tuple[int, int]:
        """Return the own share of a batch ``[start, stop)``."""
        if not self.sizes(stop - start):
            return start, stop
        bounds = edges(stop - start, self.world)
        return start + bounds[self.rank], start + bounds[self.rank + 1]


def edges(count: int, parts: int) -> list[int]:
    """Return where equal parts of a batch begin, and where the last one ends; they differ by at most one sample."""
    return [part * count // parts for part in range(parts + 1)]


def part_of(batch: AnyBatch, start: int, stop: int) -> AnyBatch:
    """Return some samples of a batch: every tensor in it, also of its targets, is cut along the first dimension.

    Raises:
        RunError: the batch holds something other than tensors, records of tensors and None.

    >>> import torch
    >>> part_of(Batch(torch.zeros(4, 3, 8, 8), torch.arange(4), torch.arange(4)), 1, 3).targets
    tensor([1, 2])
    """
    return replace(
        batch,
        images=batch.images[start:stop],
        targets=_cut(batch.targets, start, stop),
        indices=batch.indices[start:stop],
        sizes=None if batch.sizes is None else batch.sizes[start:stop],
    )


def _cut(value: object, start: int, stop: int) -> object:
    if isinstance(value, Tensor):
        return value[start:stop]
    if value is None:
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _cut(getattr(value, one.name), start, stop) for one in fields(value)})
    raise RunError(
        f"training.accumulate: a batch with a {type(value).__name__} in it cannot be cut into micro-batches; use"
        " tensors whose first dimension counts the samples, or set training.accumulate: 1"
    )


@runtime_checkable
class Shardable(Protocol):
    """A feed that draws its share of each batch itself, because a draw is costly or cannot be cut."""

    def shard(self, shard: Shard) -> Feed:
        """Return the feed of one worker; the ``sizes`` of its draws are those of the shard."""


def sharded(feed: Feed, shard: Shard) -> Feed:
    """Return the feed of one worker of a data-parallel training."""
    return feed.shard(shard) if isinstance(feed, Shardable) else _Cut(feed, shard)


class _Cut(Feed):
    """Cuts every tensor of a draw along its first dimension, which counts the samples."""

    def __init__(self, feed: Feed, shard: Shard) -> None:
        self._feed = feed
        self._shard = shard

    @property
    def targets(self) -> Tensor:
        """The target of each sample of the part."""
        return self._feed.targets

    def steps(self) -> int:
        """Return the number of batches of one epoch."""
        return self._feed.steps()

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the own share of each draw."""
        return map(self._cut, self._feed.draws(streams, start))

    def batch(self, draw: Draw) -> Batch:
        """Make the batch of a draw."""
        return self._feed.batch(draw)

    def _cut(self, draw: Draw) -> Draw:
        count = len(next(iter(draw.tensors.values())))
        start, stop = self._shard.of(0, count)
        return Draw({name: tensor[start:stop] for name, tensor in draw.tensors.items()}, self._shard.sizes(count))
