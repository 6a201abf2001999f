"""Streams of a pretended GPU: which work has to wait for which, and which work would race.

All work is done at once, in the order of Python. Noted is only what a GPU would be allowed to do in another order: each
stream has a clock (Lamport 1978; Fidge 1988), and so has each memory that is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor

Clock = dict[int, int]
"""Stream -> how much of its work has ended."""


def _later(clock: Clock, other: Clock) -> None:
    """Let a clock know what another one knows."""
    for stream, ended in other.items():
        clock[stream] = max(clock.get(stream, 0), ended)


def _covers(clock: Clock, other: Clock) -> bool:
    return all(clock.get(stream, 0) >= ended for stream, ended in other.items())


class Event:
    """Stands for ``torch.cuda.Event``."""

    def __init__(self, **_: Any) -> None:
        """Record nothing yet."""
        self.clock: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        """Record what a stream was given until now."""
        assert stream is not None
        self.clock = dict(stream.clock)


class Stream:
    """Stands for ``torch.cuda.Stream``.

    Attributes:
        number: tells the stream apart.
        clock: what must have ended before the next work of the stream begins.
        freed: the clocks of the uses of memory that was let go and belongs to this stream.
    """

    def __init__(self, number: int, timeline: Timeline) -> None:
        """Be a stream of a pretended GPU."""
        self.number = number
        self.clock: Clock = {}
        self.freed: list[Clock] = []
        self._timeline = timeline

    def wait_event(self, event: Event) -> None:
        """Let later work wait for an event."""
        _later(self.clock, event.clock)

    def wait_stream(self, other: Stream) -> None:
        """Let later work wait for what another stream was given until now."""
        _later(self.clock, other.clock)

    def synchronize(self) -> None:
        """Wait in Python: all later work of any stream begins after this stream's."""
        _later(self._timeline.host, self.clock)

    def is_capturing(self) -> bool:
        """Return whether a graph is captured."""
        return self._timeline.graph is not None


class Memory:
    """What is known of one memory on a pretended GPU.

    Attributes:
        written: when the memory was last written.
        used: when the memory was last used in each stream.
    """

    def __init__(self, owner: Stream) -> None:
        """Belong to the stream in which the memory was allocated."""
        self._owner = owner
        self.written: Clock = {}
        self.used: Clock = {}
        self.recorded: set[int] = {owner.number}

    def __del__(self) -> None:
        """Give the memory back to its stream, which may use it anew at once, but for streams that were recorded."""
        left = {stream: ended for stream, ended in self.used.items() if stream not in self.recorded}
        if left:
            self._owner.freed.append(left)


class Timeline:
    """All streams of a pretended GPU.

    Attributes:
        host: what Python has waited for.
        races: what a GPU could do in the wrong order, in words.
        current: the stream that is current.
        graph: the graph that is captured; None while none is.
    """

    def __init__(self, streams: int = 32) -> None:
        """Have so many streams beside the default one; like torch, give them in turns."""
        self.host: Clock = {}
        self.races: list[str] = []
        self.current = self._default = Stream(0, self)
        self.graph: object = None
        self._streams = [Stream(number, self) for number in range(1, streams + 1)]
        self._given = count()

    def stream(self, device: object = None, **_: object) -> Stream:
        """Return the next stream."""
        return self._streams[next(self._given) % len(self._streams)]

    @contextmanager
    def within(self, stream: Stream) -> Iterator[None]:
        """Let a stream be current within a block."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def synchronize(self, device: object = None) -> None:
        """Wait for all streams."""
        for stream in [self._default, *self._streams]:
            stream.synchronize()

    def work(self, name: str, reads: Sequence[Memory], writes: Sequence[Memory], makes: int = 0) -> None:
        """Give the current stream a piece of work, and note if it may run beside work that it depends on.

        Args:
            name: what is done.
            reads: the memories that are read.
            writes: the memories that are written, new ones included.
            makes: how many of the memories are new.
        """
        stream = self.current
        _later(stream.clock, self.host)
        for memory in reads:
            self._expect(memory.written, f"{name} reads what another stream may still write")
        for memory in writes:
            self._expect(memory.used, f"{name} writes to what another stream may still use")
        if makes:
            stream.freed = [left for left in stream.freed if not _covers(stream.clock, left)]
            if stream.freed:
                self.races.append(f"{name} may be given memory that another stream still uses")
                stream.freed.clear()
        stream.clock[stream.number] = now = stream.clock.get(stream.number, 0) + 1
        for memory in [*reads, *writes]:
            memory.used[stream.number] = now
        for memory in writes:
            memory.written = {stream.number: now}

    def _expect(self, ended: Clock, race: str) -> None:
        if not _covers(self.current.clock, ended):
            self.races.append(race)

    def patches(self) -> list[tuple[Any, str, Any]]:
        """Return what takes the place of torch's own: the owner, the name and the value of each."""
        return [
            (torch.cuda, "Stream", self.stream),
            (torch.cuda, "Event", Event),
            (torch.cuda, "stream", self.within),
            (torch.cuda, "current_stream", lambda device=None: self.current),
            (torch.accelerator, "current_stream", lambda device=None: self.current),
            (torch.cuda, "is_current_stream_capturing", lambda: self.graph is not None),
            (torch.cuda, "synchronize", self.synchronize),
            (Tensor, "record_stream", record_stream),
        ]


def memory_of(tensor: Tensor) -> Memory | None:
    """Return what is known of the memory of a tensor; None where it is not on the pretended GPU."""
    found: Memory | None = getattr(tensor.untyped_storage(), "memory", None)
    return found


def record_stream(tensor: Tensor, stream: Stream) -> None:
    """Keep the memory of a tensor, when it is let go, until a stream has used it."""
    found = memory_of(tensor)
    if found is not None:
        found.recorded.add(stream.number)
