"""A stand-in for CUDA graphs that runs on a CPU: it records the operations of a step, and then replays them.

As in a CUDA graph, a replay repeats each operation on the same tensors, wherever Python keeps them by then, and no line
of Python runs again. What a CUDA graph forbids is refused: to read a value, and to make a tensor from Python's numbers.
(On a CPU ``tolist`` and ``numpy`` are no operations of torch, so a tape cannot refuse them.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tskd_tune.contracts import AnyBatch, Out
from tskd_tune.errors import RunError
from tskd_tune.training.capture import Again
from tskd_tune.training.compute import Compute
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.steps import StepKind

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
MAKES = (torch.ops.aten.lift_fresh.default,)


class Tape:
    """Records steps; it takes the place of `tskd_tune.training.capture.CudaCapture`.

    Attributes:
        taken: how many steps were recorded.
        replayed: how many steps were replayed.
    """

    def __init__(self, compute: Compute) -> None:
        """Record on any device."""
        self.taken = self.replayed = 0

    def __call__(self, step: Callable[[], None], generators: Sequence[torch.Generator]) -> Again:
        """Take a step, and return what replays it."""
        recorder = Recorder()
        with recorder:
            step()
        self.taken += 1

        def again() -> None:
            self.replayed += 1
            recorder.replay()

        return again


@torch.no_grad()
def stands_for_all(function: Callable[[Tensor], Tensor], first: Tensor, second: Tensor) -> bool:
    """Tell whether the operations of a function, recorded for one input, give the bits of a new call for another.

    >>> first, second = torch.zeros(2), torch.ones(2)
    >>> stands_for_all(torch.exp, first, second)
    True
    >>> counts = iter(range(9))
    >>> stands_for_all(lambda given: given + next(counts), first, second)
    False

    Raises:
        RunError: the function reads a value off a tensor, or makes a tensor from Python's numbers.
    """
    given, results = first.clone(), list[Tensor]()
    recorder = Recorder()
    with recorder:
        results.append(function(given))
    given.copy_(second)
    recorder.replay()
    return torch.equal(results[0], function(second))


def holding(engine: EagerEngine[Out]) -> EagerEngine[Out]:
    """Let eager steps of an engine hold all of their tensors until the step ends, as a tape does; return the engine.

    Autograd adds up gradients in place where nobody else holds them, and otherwise into new memory, whose strides may
    be others. Kernels are chosen by strides, and round differently. A CUDA graph holds no tensor, so on a GPU captured
    steps have the bits of eager ones without this.
    """
    update = engine.update

    def held(batch: AnyBatch, kind: StepKind) -> dict[str, Tensor]:
        with _Holder():
            return update(batch, kind)

    engine.update = held  # type: ignore[method-assign]
    return engine


class _Holder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Holds the results of all operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._held.append(func(*args, **(kwargs or {})))
        return self._held[-1]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records each operation with its arguments, and with the tensors that hold its results."""

    def __init__(self) -> None:
        """Record what is done in the block of this recorder."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[tuple[Any, Sequence[Any], Mapping[str, Any], list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation, and record it."""
        if func in READS:
            raise RunError(
                f"training.graphs: a captured step reads a value off a tensor ({func}); a GPU would be waited for"
            )
        if func in MAKES:
            raise RunError(
                f"training.graphs: a captured step makes a tensor from Python's numbers ({func}); use a buffer"
            )
        given = kwargs or {}
        results = func(*args, **given)
        taken = {_place(value) for value in tree_leaves((args, given)) if isinstance(value, Tensor)}
        # A result that shares the memory of an argument is a view, or the argument that was changed.
        fresh = [value for value in tree_leaves(results) if isinstance(value, Tensor)]
        held = [value if _place(value) not in taken else _NOWHERE for value in fresh]
        self._operations.append((func, args, given, held))
        return results

    def replay(self) -> None:
        """Carry out all operations again, each result written to where it was."""
        with torch.no_grad():
            for func, args, given, held in self._operations:
                results = [value for value in tree_leaves(func(*args, **given)) if isinstance(value, Tensor)]
                for place, value in zip(held, results, strict=True):
                    if place is not _NOWHERE:
                        place.copy_(value)


_NOWHERE = torch.empty(0)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
