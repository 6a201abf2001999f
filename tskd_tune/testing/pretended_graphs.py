"""CUDA graphs of a pretended GPU: tapes that are recorded where torch would capture a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch

from tskd_tune.testing.pretended_streams import Stream, Timeline
from tskd_tune.testing.tape import Recorder


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``.

    Attributes:
        generators: those that are registered: a capture may draw from no others but the default one.
    """

    def __init__(self) -> None:
        """Have captured nothing."""
        self.generators: list[torch.Generator] = []
        self.recorder = Recorder()
        self._is_taken = True

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Let a capture draw from a generator."""
        self.generators.append(generator)

    def replay(self) -> None:
        """Take the captured operations; the first time they were taken when they were captured."""
        if not self._is_taken:
            self.recorder.replay()
        self._is_taken = False


class Graphs:
    """Captures graphs on a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        """Belong to a pretended GPU."""
        self._timeline = timeline
        self._pools = count(1)

    @contextmanager
    def capture(self, graph: Graph, *, stream: Stream | None = None, **_: object) -> Iterator[None]:
        """Record what a block does, in a stream that waits for all that was before it."""
        self._timeline.synchronize()
        self._timeline.graph = graph
        try:
            with self._timeline.within(stream or self._timeline.stream()), graph.recorder:
                yield
        finally:
            self._timeline.graph = None

    def patches(self) -> list[tuple[Any, str, Any]]:
        """Return what takes the place of torch's own: the owner, the name and the value of each."""
        return [
            (torch.cuda, "CUDAGraph", Graph),
            (torch.cuda, "graph", self.capture),
            (torch.cuda, "graph_pool_handle", lambda: next(self._pools)),
            (torch._C, "_cuda_clearCublasWorkspaces", lambda: None),
        ]
