"""The streams beside that of a training, with stand-ins for torch's: what waits for what. See also test_gpu.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from tskd_tune.training.compute import Compute
from tskd_tune.training.cuda_branches import CudaBranches

STREAMS = 4  # torch has 32, and gives them in turns


class Event:
    """What a stream was given before: the number of each piece of work."""

    def __init__(self) -> None:
        self.before: set[int] = set()

    def record(self, stream: Stream) -> None:
        self.before = set(stream.before)


class Stream:
    """Knows which pieces of work must have ended before its next one begins."""

    def __init__(self) -> None:
        self.before: set[int] = set()

    def wait_event(self, event: Event) -> None:
        self.before |= event.before

    def wait_stream(self, other: Stream) -> None:
        self.before |= other.before


class Cuda:
    """Stands for the streams of torch.cuda; `work` gives the current one a piece of work and returns its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = Stream()
        self.capturing = False
        self._all = [Stream() for _ in range(STREAMS)]
        self._given = self._worked = 0
        monkeypatch.setattr(torch.cuda, "Stream", self._next)
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "stream", self.within)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: self.current)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)

    def _next(self, device: torch.device) -> Stream:
        self._given += 1
        return self._all[self._given % STREAMS]

    @contextmanager
    def within(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def work(self) -> int:
        self._worked += 1
        self.current.before.add(self._worked)
        return self._worked


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return Cuda(monkeypatch)


def branches() -> CudaBranches:
    return CudaBranches(Compute.choose("cpu", "float32", False, None))


def a_step(cuda: Cuda, of: CudaBranches, apart: int) -> tuple[set[int], int]:
    """Take a step; return what the first branch waited for, and the piece of work that read what it had computed."""
    waited: list[set[int]] = []
    of.begin()
    with of.fork() as beside:
        for _ in range(apart):
            beside(lambda: waited.append(set(cuda.current.before)) or cuda.work())
    reads = cuda.work()
    of.join()
    return waited[0], reads


def test_a_fork_waits_for_what_was_before_it_and_what_follows_waits_for_the_branches(cuda: Cuda) -> None:
    one, before, within = branches(), cuda.work(), []
    one.begin()
    with one.fork() as apart:
        first, second = (apart(lambda: within.append(set(cuda.current.before)) or cuda.work()) for _ in range(2))
    assert all(before in each for each in within) and first not in within[1]
    assert {first, second} <= cuda.current.before


def test_a_training_that_shares_a_stream_waits_for_the_step_of_the_other(cuda: Cuda) -> None:
    first, second = branches(), branches()
    own = [Stream(), Stream()]
    with cuda.within(own[0]):
        _, reads = a_step(cuda, first, STREAMS)
    with cuda.within(own[1]):
        waited, _ = a_step(cuda, second, STREAMS)
    assert reads in waited


def test_within_a_capture_no_branch_stays_open(cuda: Cuda) -> None:
    cuda.capturing, one = True, branches()
    _, reads = a_step(cuda, one, 2)
    assert all(reads not in stream.before for stream in one._streams)
