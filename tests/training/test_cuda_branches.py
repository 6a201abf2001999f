"""The streams beside that of a training, on a pretended GPU: what waits for what. See also test_gpu.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tskd_tune.testing.pretended_streams import Clock, Stream, Timeline
from tskd_tune.training.compute import Compute
from tskd_tune.training.cuda_branches import CudaBranches

STREAMS = 4  # torch has 32, and gives them in turns
Work = tuple[int, int]
"""A piece of work: its stream, and how much the stream has done with it."""


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Timeline]:
    timeline = Timeline(STREAMS)
    for owner, name, value in timeline.patches():
        monkeypatch.setattr(owner, name, value)
    yield timeline
    assert not timeline.races


def work(cuda: Timeline) -> Work:
    """Give the current stream a piece of work."""
    cuda.work("some work", [], [])
    return cuda.current.number, cuda.current.clock[cuda.current.number]


def waits(clock: Clock, piece: Work) -> bool:
    """Tell whether what comes at a clock waits for a piece of work."""
    stream, ended = piece
    return clock.get(stream, 0) >= ended


def branches() -> CudaBranches:
    return CudaBranches(Compute.choose("cpu", "float32", False, None))


def a_step(cuda: Timeline, of: CudaBranches, apart: int) -> tuple[Clock, Work]:
    """Take a step; return what the first branch waited for, and the piece of work that read what it had computed."""
    waited: list[Clock] = []
    of.begin()
    with of.fork() as beside:
        for _ in range(apart):
            beside(lambda: waited.append(dict(cuda.current.clock)) or work(cuda))
    reads = work(cuda)
    of.join()
    return waited[0], reads


def test_a_fork_waits_for_what_was_before_it_and_what_follows_waits_for_the_branches(cuda: Timeline) -> None:
    one, before, within = branches(), work(cuda), list[Clock]()
    one.begin()
    with one.fork() as apart:
        first, second = (apart(lambda: within.append(dict(cuda.current.clock)) or work(cuda)) for _ in range(2))
    assert all(waits(each, before) for each in within) and not waits(within[1], first)
    assert all(waits(cuda.current.clock, each) for each in (first, second))


def test_a_training_that_shares_a_stream_waits_for_the_step_of_the_other(cuda: Timeline) -> None:
    first, second = branches(), branches()
    own = [Stream(number, cuda) for number in (-1, -2)]  # not among those that are given in turns
    with cuda.within(own[0]):
        _, reads = a_step(cuda, first, STREAMS)
    with cuda.within(own[1]):
        waited, _ = a_step(cuda, second, STREAMS)
    assert waits(waited, reads)


def test_within_a_capture_no_branch_stays_open(cuda: Timeline) -> None:
    cuda.graph, one = object(), branches()
    _, reads = a_step(cuda, one, 2)
    assert not any(waits(stream.clock, reads) for stream in one._streams)
