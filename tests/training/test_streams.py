"""Random streams are functions of (seed, purpose, numbers) and of nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from tskd_tune.training.streams import Streams, drawing, generator, initialization, stream_seed


def test_streams_differ_by_seed_purpose_and_number_and_repeat_otherwise() -> None:
    words = [(1, "order", 0), (1, "order", 1), (2, "order", 0), (1, "augmentation", 0), (11, "order"), (1, "1order")]
    seeds = {stream_seed(seed, purpose, *numbers) for seed, purpose, *numbers in words}
    assert len(seeds) == len(words)
    first, again = generator(1, "order", 0), generator(1, "order", 0)
    assert torch.equal(torch.randperm(50, generator=first), torch.randperm(50, generator=again))


def test_initialization_depends_on_its_stream_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with initialization(1, "student"):
        one = torch.nn.Linear(3, 3).weight
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    with initialization(1, "student"):
        same = torch.nn.Linear(3, 3).weight
    with initialization(2, "student"):
        other = torch.nn.Linear(3, 3).weight
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_drawing_fixes_every_global_generator_and_leaves_it_as_it_was() -> None:
    def drawn(seed: int, epoch: int) -> tuple[float, float, float]:
        with drawing(seed, "network", epoch):
            return float(torch.rand(())), float(np.random.rand()), random.random()

    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, again = drawn(1, 0), drawn(1, 0)
    assert first == again
    assert all(one != other for one, other in zip(first, drawn(1, 1), strict=True))
    assert all(one != other for one, other in zip(first, drawn(2, 0), strict=True))
    with pytest.raises(MemoryError), drawing(1, "network", 0):
        torch.rand(3), np.random.rand(3), random.random()
        raise MemoryError
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]


def test_a_generator_is_fresh_and_a_kept_one_goes_on() -> None:
    streams = Streams(1, 3)
    assert streams.generator("order").initial_seed() == generator(1, "order", 3).initial_seed()
    assert streams.generator("order") is not streams.generator("order")
    kept = streams.kept("order")
    first = torch.rand(2, generator=kept)
    assert torch.equal(first, torch.rand(2, generator=generator(1, "order", 3)))
    assert not torch.equal(first, torch.rand(2, generator=streams.kept("order")))
    streams.begin(4)
    assert streams.kept("order") is kept, "a captured graph draws from this object"
    assert torch.equal(torch.rand(2, generator=kept), torch.rand(2, generator=generator(1, "order", 4)))


def test_kept_generators_go_on_after_a_resume() -> None:
    streams, resumed = Streams(1), Streams(1)
    torch.rand(3, generator=streams.kept("distiller"))
    resumed.load_state_dict(streams.state_dict())
    wanted = torch.rand(3, generator=streams.kept("distiller"))
    assert torch.equal(torch.rand(3, generator=resumed.kept("distiller")), wanted)
