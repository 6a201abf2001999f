"""A GPU that is only pretended: tensors of the CPU that say they are on a GPU, and refuse what a GPU refuses.

A block under `pretended_gpu` finds a GPU. Tensors that are moved there keep their values and their bits, so a training
in the block ends as on the CPU. An operation that mixes tensors of both devices raises an error, and so does a
generator of the other device. `PretendedGpu.waits` names each operation that waits for the GPU, or sends something to
it from memory of the CPU: a captured step must do neither.

`tskd_tune.testing.pretended_streams` follows in which order a GPU could do the work, except in a backward pass, which
torch orders by itself. Kernels compute, and autocast casts, as on a CPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tskd_tune.tasks.resident import OWNER
from tskd_tune.testing.pretended_graphs import Graph, Graphs
from tskd_tune.testing.pretended_streams import Memory, Timeline, memory_of
from tskd_tune.training import capture

Place = Literal["cpu", "cuda"]

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
OPERATION = type(torch.ops.aten.add.Tensor)
# What waits for a GPU, because the CPU must know a value of its result or the result's size.
WAITING = {
    "_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive",
    "equal", "_linalg_check_errors", "histc", "allclose",
}  # fmt: skip
# These take tensors of both devices.
COPYING = {"copy_", "_to_copy", "set_", "_foreach_copy_", "index", "index_put_", "_index_put_impl_"}
INDEXING = {"index", "index_put_", "_index_put_impl_"}


class DeviceError(AssertionError):
    """An operation that a GPU refuses."""


class Generator(torch.Generator):
    """A generator that may say it is one of a GPU; it draws what a generator of the CPU draws."""

    pretended: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> Generator:
        """Make a generator."""
        made = super().__new__(cls)
        made.pretended = torch.device(device)  # as torch does it: of "cuda" without a number
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the generator says that it is."""
        return self.pretended

    def graphsafe_get_state(self) -> Generator:
        """Return this generator."""
        return self

    def graphsafe_set_state(self, state: torch.Generator) -> Generator:
        """Keep the state: each training of the CPU seeds the default generator of the CPU, from which is drawn."""
        return self


class PretendedGpu:
    """What a pretended GPU has met.

    Attributes:
        waits: the operations that wait for the GPU, or send to it from memory of the CPU, each with the line of code.
        timeline: the streams.
    """

    def __init__(self, streams: int = 32) -> None:
        """Meet nothing yet; ``streams``: how many there are beside the default one."""
        self.waits: list[str] = []
        self.timeline = Timeline(streams)

    @property
    def races(self) -> list[str]:
        """What a GPU could do in the wrong order, in words."""
        return self.timeline.races

    @contextmanager
    def step(self, capturable: bool = True) -> Iterator[None]:
        """Fail if the block does in the wrong order what it does, or, where it can be captured, waits for the GPU."""
        self.waits.clear()
        yield
        assert not self.races, f"a GPU may work in the wrong order: {self.races}"
        found = f"a captured step would wait for the GPU; set capturable = False, or use tensors: {self.waits}"
        assert not (capturable and self.waits), found

    def note(self, what: str) -> None:
        """Note an operation, with the line outside of torch that does it."""
        frames = [frame for frame in traceback.extract_stack() if not _is_of_torch(frame.filename)]
        self.waits.append(f"{what}, {Path(frames[-1].filename).name}:{frames[-1].lineno}")
        self.timeline.current.synchronize()

    def put(self, tensor: Tensor, place: Place) -> None:
        """Let a tensor, and all that shares its memory, say where it is."""
        storage: Any = tensor.untyped_storage()
        storage.pretended = place
        if place == "cuda" and memory_of(tensor) is None:
            storage.memory = made = Memory(self.timeline.current)
            self.timeline.work("a new tensor", [], [made], makes=1)

    def work(self, func: Any, args: Any, kwargs: Any, new: Sequence[Tensor]) -> None:
        """Follow the memories that an operation reads and writes; ``new`` are the results with memory of their own."""
        written: set[int] = set()
        names = [argument.name for argument in func._schema.arguments]
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                place = names.index(argument.name)
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                written |= {id(one) for one in map(memory_of, _tensors(value)) if one is not None}
        met = [one for one in map(memory_of, [*_tensors((args, kwargs)), *new]) if one is not None]
        made = {id(memory_of(one)) for one in new}
        if met and (written or made):  # what only looks at memory in another shape is no work
            reads = [one for one in met if id(one) not in written | made]
            writes = [one for one in met if id(one) in written | made]
            self.timeline.work(func.overloadpacket.__name__, reads, writes)


def _tensors(value: object) -> list[Tensor]:
    return [one for one in tree_leaves(value) if isinstance(one, Tensor)]


def _is_of_torch(file: str) -> bool:
    return file == __file__ or f"{Path(torch.__file__).parent}/" in file or file.startswith("<")


def place_of(tensor: Tensor) -> Place | None:
    """Return where a tensor says that it is; None where only torch's inside has made it."""
    found: Place | None = getattr(tensor.untyped_storage(), "pretended", None)
    return found


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows which device the result of each operation is on, in the backward pass, too."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = func.overloadpacket.__name__, kwargs or {}
        tensors = _tensors((args, given))
        places = [place_of(one) for one in tensors]
        on_gpu = "cuda" in places
        if on_gpu:
            self._check(name, args, tensors, places)
        _refuse_generators(given, GPU if on_gpu else None, self._gpu.timeline.graph)
        results = func(*args, **given)
        first = places[0] if name in COPYING and places else None
        place: Place | None = first or ("cuda" if on_gpu else "cpu" if "cpu" in places else None)
        new = [one for one in _tensors(results) if place is not None and place_of(one) is None]
        for one in new:
            self._gpu.put(one, place or "cpu")
        if "cuda" in (place, *places):
            self._gpu.work(func, args, given, new)
        return results

    def _check(self, name: str, args: Any, tensors: Sequence[Tensor], places: Sequence[Place | None]) -> None:
        """Refuse what mixes devices, and note what waits."""
        beside = [one for one, place in zip(tensors, places, strict=True) if place == "cpu"]
        if name in WAITING:
            self._gpu.note(name)
        if name.startswith("_fused_"):
            _check_layouts(name, args)
        if name in INDEXING:
            self._check_indices(name, args)
        elif name in COPYING:
            if beside:
                self._gpu.note(f"{name} between the devices")
        elif any(one.dim() for one in beside) or (beside and name.endswith("_") and places[0] == "cpu"):
            raise DeviceError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")

    def _check_indices(self, name: str, args: Any) -> None:
        if place_of(args[0]) != "cuda":
            raise DeviceError(f"{name}: indices should be either on cpu or on the same device as the indexed tensor")
        for index in args[1]:
            if index is None:
                continue
            if place_of(index) == "cpu":
                self._gpu.note(f"{name} by a tensor of the CPU")
            if index.dtype in (torch.bool, torch.uint8):
                self._gpu.note(f"{name} by a mask")
        if name != "index" and place_of(args[2]) == "cpu" and args[2].dim():
            raise DeviceError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")


def _check_layouts(name: str, args: Any) -> None:
    """Refuse a parameter whose gradient, or what is remembered of it, lies in memory in another way."""
    lists = [one for one in args if isinstance(one, list | tuple) and one]
    for same in zip(*lists, strict=True):
        if len({one.stride() for one in same if one.dim()}) > 1:
            raise DeviceError(f"{name}: expected tensors with the same strides, got {[one.stride() for one in same]}")


def _refuse_generators(given: Mapping[str, Any], device: torch.device | None, graph: object) -> None:
    generator = given.get("generator")
    if device is None or not isinstance(generator, Generator):
        return
    if generator.device.type != device.type:
        raise DeviceError(f"Expected a '{device.type}' device type for generator but found '{generator.device.type}'")
    if isinstance(graph, Graph) and device.type == "cuda" and generator not in graph.generators:
        raise DeviceError("Attempt to increase offset for a CUDA generator not in capture mode: it is not registered")


_ATTRIBUTES: Mapping[Any, Callable[[bool], Any]] = {
    Tensor.device.__get__: lambda on_gpu: GPU if on_gpu else CPU,
    Tensor.is_cuda.__get__: lambda on_gpu: on_gpu,  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: lambda on_gpu: not on_gpu,  # type: ignore[attr-defined]
}
_READING = (Tensor.tolist, Tensor.numpy, Tensor.__array__)


class _Calls(TorchFunctionMode):
    """Takes care of devices that Python names, and of what is no operation: attributes, and values as Python's."""

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if isinstance(func, OPERATION):  # of a tape, which repeats what torch's inside did
            return func(*args, **given)
        if func in _ATTRIBUTES:
            return _ATTRIBUTES[func](place_of(args[0]) == "cuda")
        if func in (Tensor.to, Tensor.cuda, Tensor.cpu):
            return self._moved(func, args, given)
        if func in _READING and place_of(args[0]) == "cuda":
            if func is not Tensor.tolist:
                raise DeviceError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu() first")
            self._gpu.note("tolist")
        asked, makes = given.get("device"), not _tensors((args, given))
        if asked is not None or makes:
            _refuse_generators(given, torch.device(asked or "cpu"), self._gpu.timeline.graph)
        if asked is not None:
            given["device"] = CPU
        results = func(*args, **given)
        on_gpu = asked is not None and torch.device(asked).type == "cuda"
        for one in _tensors(results) if asked is not None or makes else ():
            self._gpu.put(one, "cuda" if on_gpu else "cpu")
            if on_gpu and func is torch.tensor:
                self._gpu.note("torch.tensor with a device")
        return results

    def _moved(self, func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
        """Move a tensor; on the other device it has memory of its own."""
        own, *others = args
        named = [*others, *given.values()] if func is Tensor.to else []
        asked: Place | None = "cuda" if func is Tensor.cuda else "cpu" if func is Tensor.cpu else None
        for one in named:
            if isinstance(one, str | torch.device):
                asked = _place(one)
            elif isinstance(one, Tensor):
                asked = place_of(one)
        rest = [CPU if isinstance(one, str | torch.device) else one for one in others]
        given = {name: CPU if name == "device" else value for name, value in given.items()}
        moved: Tensor = own.to(*rest, **given) if func is Tensor.to else own
        before = place_of(own) or "cpu"
        if asked is None or asked == before:
            return moved
        if not given.get("non_blocking"):
            self._gpu.note(f"to {asked}")
        moved = moved.clone() if moved.untyped_storage().data_ptr() == own.untyped_storage().data_ptr() else moved
        self._gpu.put(moved, asked)
        return moved


def _place(device: str | torch.device) -> Place:
    return "cuda" if torch.device(device).type == "cuda" else "cpu"


def _grouped(original: Any) -> Any:
    """Let optimizers find the tensors of each device: torch itself sees those of the CPU alone."""

    def grouped(lists: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(lists, *args, **kwargs)
        on_gpu = any(place_of(one) == "cuda" for one in _tensors(lists) if one.dim())
        return {(GPU if on_gpu else device, dtype): value for (device, dtype), value in found.items()}

    return staticmethod(grouped)


def _of_cpu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of autocast that is asked about the CPU, whatever device is named."""
    return lambda device="cpu", *args, **kwargs: original("cpu", *args, **kwargs)


@contextmanager
def pretended_gpu(streams: int = 32) -> Iterator[PretendedGpu]:
    """Let a block find a GPU; whatever computes in the block must be built in it.

    >>> with pretended_gpu() as gpu:
    ...     given = torch.ones(3, device="cuda")
    ...     given.device, given.sum().item(), len(gpu.waits)
    (device(type='cuda', index=0), 3.0, 1)
    """
    OWNER.clear()  # what it holds belongs to another pretended GPU
    gpu, kind = PretendedGpu(streams), torch.optim.Optimizer
    default = Generator(GPU)
    patches: list[tuple[Any, str, Any]] = [
        (torch, "Generator", Generator),
        (torch, "autocast", _of_cpu(torch.autocast)),
        (torch, "is_autocast_enabled", _of_cpu(torch.is_autocast_enabled)),
        (torch, "get_autocast_dtype", _of_cpu(torch.get_autocast_dtype)),
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "device_count", lambda: 1),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "default_generators", (default,)),
        (capture, "REGISTERS", True),  # as the oldest torch, whose graphs know no generator that is not named
        (torch.cuda, "get_device_name", lambda device=None: "a pretended GPU"),
        (torch.cuda, "max_memory_allocated", lambda device=None: 0),
        (torch.cuda, "reset_peak_memory_stats", lambda device=None: None),
        (kind, "_group_tensors_by_device_and_dtype", _grouped(kind._group_tensors_by_device_and_dtype)),
        *gpu.timeline.patches(),
        *Graphs(gpu.timeline).patches(),
    ]
    with ExitStack() as stack:
        for owner, name, value in patches:
            only_with_cuda = owner is torch._C  # builds of torch without CUDA lack it
            stack.enter_context(mock.patch.object(owner, name, value, create=only_with_cuda))
        stack.enter_context(_Operations(gpu))
        stack.enter_context(_Calls(gpu))
        try:
            yield gpu
        finally:
            OWNER.clear()
