"""Parallel branches of a step on a GPU: streams beside the own stream of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from tskd_tune.method.branches import Apart, Branches
from tskd_tune.training.compute import Compute

T = TypeVar("T")


class CudaBranches(Branches):
    """Forks streams from the own stream of a training, and joins them; in a captured graph they become branches.

    A stream serves once a step. What was computed in it is let go after the step has used it, and the memory is used
    anew in the next step, whose fork waits for all that the own stream was given before. Torch has 32 streams alone, so
    the trainings of a bundle may share one: what another training gives it waits for the step, too.
    """

    def __init__(self, compute: Compute) -> None:
        """Belong to a training that computes in this way."""
        self._device = compute.device
        self._streams: list[torch.cuda.Stream] = []
        self._taken = 0

    def begin(self) -> None:
        """Begin a step, in which all streams are free."""
        self._taken = 0

    def join(self) -> None:
        """Let the current stream wait for every stream of the step: a graph must not end with an open branch.

        Without a capture each stream waits for the step in turn. Otherwise another training that shares the stream
        could write to memory that this step has let go and still reads. What a capture lets go is its own.
        """
        own, taken = torch.cuda.current_stream(self._device), self._streams[: self._taken]
        for stream in taken:
            own.wait_stream(stream)
        if taken and not torch.cuda.is_current_stream_capturing():
            for stream in taken:
                stream.wait_stream(own)

    @contextmanager
    def fork(self) -> Iterator[Apart]:
        """Let work begin when the work so far is done, and let what follows the block wait for all of it."""
        own, first = torch.cuda.current_stream(self._device), self._taken
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record(own)

        def apart(work: Callable[[], T], *uses: Tensor) -> T:
            stream = self._next()
            stream.wait_event(ready)
            for tensor in uses:
                tensor.record_stream(stream)  # else its memory could be used anew before this stream has read it
            with torch.cuda.stream(stream):
                return work()

        yield apart
        for stream in self._streams[first : self._taken]:
            own.wait_stream(stream)

    def _next(self) -> torch.cuda.Stream:
        if self._taken == len(self._streams):
            self._streams.append(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
        self._taken += 1
        return self._streams[self._taken - 1]
