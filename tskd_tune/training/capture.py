"""Captures the operations of a step, so that they can be taken again without Python.

Engines know `Capture` alone. On a GPU `CudaCapture` makes a CUDA graph; the tests of machines without a GPU use
`tskd_tune.testing.tape.Tape`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch

from tskd_tune.errors import RunError, TskdTuneError, reason
from tskd_tune.training.compute import Compute

REGISTERS = torch.__version__ < "2.15"  # compared as versions, not as texts
"""Whether a graph must be told from which generators a capture draws; later versions of torch find them, and warn."""

Again: TypeAlias = Callable[[], None]
"""Takes a captured step again, on the same tensors: it reads what they hold now, and writes to them."""


class Capture(Protocol):
    """Takes a step once, and keeps its operations."""

    def __call__(self, step: Callable[[], None], generators: Sequence[torch.Generator]) -> Again:
        """Take a step and return what takes it again.

        Args:
            step: operations on tensors that stay where they are. The step never waits for the device.
            generators: what the step draws from beside the default generators; they stay the same objects.

        Raises:
            RunError: the step cannot be captured.
        """


class CudaCapture:
    """Captures CUDA graphs of one training: in its own stream, with memory that only its graphs use.

    The graphs share this memory: each replay writes what it reads of it, and replays of one stream never overlap. The
    memory is free again when all of the graphs are gone; the next graph then begins with other memory, because torch
    refuses to go on with a pool whose last graph is gone.
    """

    def __init__(self, compute: Compute) -> None:
        """Capture for a training that computes in this way; it has a stream of its own."""
        self._stream = compute.stream
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()

    def __call__(self, step: Callable[[], None], generators: Sequence[torch.Generator]) -> Again:
        """Capture a step, which takes no step, and then take it; torch adds its default generator by itself."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            if REGISTERS and generator.device.type == "cuda":
                graph.register_generator_state(generator)
        within: list[Exception] = []
        # Torch before 2.15 keeps a workspace of cuBLAS for each stream, and several trainings may share a stream: in a
        # graph the workspace must come from the own memory, because replays of two graphs overlap.
        torch._C._cuda_clearCublasWorkspaces()
        try:
            # Other threads of the process, which pin memory or write a checkpoint, go on while this one captures.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                try:
                    step()
                except Exception as error:
                    within.append(error)
                    raise
        except Exception as error:
            # The end of a capture fails too after an error within it: the first error is the one to be known.
            first = within[0] if within else error
            as_it_is = isinstance(first, torch.OutOfMemoryError | TskdTuneError) or not isinstance(first, RuntimeError)
            if as_it_is:
                raise first from None
            raise RunError(
                f"training.graphs: a step could not be captured in a CUDA graph ({reason(first)}); set training.graphs:"
                " never, and set capturable = False in the component whose operation this is"
            ) from first
        torch._C._cuda_clearCublasWorkspaces()  # those of this graph, which other work must not use
        self._graphs.add(graph)
        graph.replay()
        return graph.replay
