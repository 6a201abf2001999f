"""The shares of a batch: together they are the batch, in its order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tskd_tune.tasks import TASKS
from tskd_tune.tasks.base import Feed
from tskd_tune.tasks.shards import Shard, sharded
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 31])
def test_shares_are_contiguous_and_differ_by_at_most_one_sample(count: int, world: int) -> None:
    shards = [Shard(rank, world, least=2) for rank in range(world)]
    sizes = shards[0].sizes(count)
    bounds = [shard.of(10, 10 + count) for shard in shards]
    if count < 2 * world:
        assert sizes == () and set(bounds) == {(10, 10 + count)}
        return
    assert [stop - start for start, stop in bounds] == list(sizes) and max(sizes) - min(sizes) <= 1
    assert [*bounds[0], *(stop for _, stop in bounds[1:])] == [10, *(start for start, _ in bounds[1:]), 10 + count]


def test_the_shares_of_the_workers_are_the_batches_of_one() -> None:
    def feed() -> Feed:
        return TASKS.build("synthetic", train=17, size=8, batch_size=7).training(CPU)

    whole = batches(feed())
    workers = [batches(sharded(feed(), Shard(rank, 2, least=2))) for rank in range(2)]
    for (wanted, _), *shares in zip(whole, *workers, strict=True):
        sizes = shares[0][1]
        assert sizes == Shard(0, 2, least=2).sizes(len(wanted))
        found = torch.cat([images for images, _ in shares]) if sizes else shares[1][0]
        assert torch.equal(found, wanted)
    assert [bool(sizes) for _, sizes in workers[0]] == [True, True, False]


def batches(feed: Feed) -> list[tuple[Tensor, tuple[int, ...]]]:
    return [(feed.batch(draw).images, draw.sizes) for draw in feed.draws(Streams(1, 0))]
