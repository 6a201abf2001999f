"""Random streams are functions of (seed, purpose, numbers) and of nothing else."""

from __future__ import annotations

import torch

from tskd_tune.training.streams import generator, initialization, stream_seed


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
