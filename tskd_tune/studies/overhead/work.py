"""Counts the work of a step and the bytes of a training: counted on the running training, and counted on its parts."""

from __future__ import annotations

import gc
import io
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tskd_tune.contracts import Output
from tskd_tune.studies.overhead.arms import Arm, Pair, Training
from tskd_tune.sweeps.estimating.disk import sizes

# Operations grow with the number of images, so they are counted for a few.
FEW_IMAGES = 2
# The parameters of what is trained have a gradient and a momentum of the same size.
COPIES = 3


@dataclass(frozen=True)
class WorkJob:
    """An arm whose work is counted."""

    pair: Pair
    arm: Arm


@dataclass(frozen=True)
class Work:
    """The work of a step, and the bytes of a training.

    Attributes:
        flops: floating-point operations of convolutions and matrix products in a step of the running training.
        student_flops: those of a forward pass of the student.
        teacher_flops: those of a forward pass of the teacher up to its last tap; 0 without a review, as for the next.
        snapshot_flops: those of a forward pass of one snapshot up to its last tap.
        review_flops: those of a forward pass of the review's own loss.
        device_bytes: the most bytes of tensors that were alive in a step of the running training.
        step_bytes: the bytes of the student's parameters, gradients, momentum, buffers, and of what its forward pass
            and the task's loss keep for the backward pass; the batch included.
        teacher_bytes: the bytes that the frozen teacher holds, with its features of a batch.
        snapshot_bytes: the same of one snapshot.
        review_bytes: the parameters of the extractors with gradients and momentum, and what the review's loss keeps.
        checkpoint_bytes: the size of a checkpoint of the running training.
        checkpoint_counted: the size that the estimate of `tskd-tune check` gives.
    """

    flops: float
    student_flops: float
    teacher_flops: float
    snapshot_flops: float
    review_flops: float
    device_bytes: int
    step_bytes: int
    teacher_bytes: int
    snapshot_bytes: int
    review_bytes: int
    checkpoint_bytes: int
    checkpoint_counted: int


def count(job: WorkJob) -> Work:
    """Count the work of a step, and the bytes of a training."""
    flops = _flops(job)
    before = _alive()
    training = Training(job.pair, job.arm)
    training.begin()
    training.step()  # after a step, optimizers have their momentum
    for optimizer in training.trainer.optimizers:
        optimizer.zero_grad(set_to_none=True)  # the next step makes new gradients
    held = _held(before)
    with LiveBytes() as live:
        training.step()
    pieces = _bytes_of_pieces(training, job.arm)
    kept = sizes(training.experiment, training.trainer)
    return Work(*flops, held + live.most, *pieces, _saved(training.trainer.state_dict()), kept.state)


# Operations


def _flops(job: WorkJob) -> tuple[float, float, float, float, float]:
    """Count operations; batch norms are not folded, because the counter does not know the fused convolutions."""
    training = Training(replace(job.pair, batch_size=FEW_IMAGES), job.arm, fold=False)
    training.begin()
    images = job.pair.batch_size / FEW_IMAGES
    step, student = counted(training.step) * images, counted(training.student) * images
    if not job.arm.k:
        return step, student, 0.0, 0.0, 0.0
    pieces = training.pieces()
    snapshots = counted(pieces.snapshots) * images
    return step, student, counted(pieces.teacher) * images, snapshots / job.arm.k, counted(pieces.loss) * images


def counted(function: Callable[[], object]) -> int:
    """Return the floating-point operations of convolutions and matrix products; a multiply-add is two operations."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


# Bytes of tensors


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the tensors that operations make, for as long as their storages are alive.

    Attributes:
        most: the most bytes that were alive at once.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., object], types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        """Run an operation, and count the storages of its results that are none of its arguments'."""
        given = {_storage(one)._cdata for one in _tensors((args, kwargs))}
        found = func(*args, **(kwargs if isinstance(kwargs, dict) else {}))
        for tensor in _tensors(found):
            memory = _storage(tensor)
            if memory._cdata not in given and memory._cdata not in self._known:
                self._count(memory)
        return found

    def _count(self, memory: torch.UntypedStorage) -> None:
        size, name = memory.nbytes(), memory._cdata

        def forget(_: object) -> None:
            self._now -= size
            self._known.pop(name, None)

        self._known[name] = weakref.ref(memory, forget)
        self._now += size
        self.most = max(self.most, self._now)


def _bytes_of_pieces(training: Training, arm: Arm) -> tuple[int, int, int, int]:
    """Count the bytes of a step, of the teacher, of one snapshot and of the review's loss."""
    trainer = training.trainer
    step = COPIES * _of_parameters(trainer.student) + _of_buffers(trainer.student)
    step += kept_for_backward(training.task_loss, trainer.student)
    if not arm.k:
        return step, 0, 0, 0
    pieces, review = training.pieces(), trainer.review
    assert review is not None and trainer.teacher is not None
    teacher = _of_frozen(trainer.teacher) + _of_output(pieces.teacher())
    snapshots = _of_frozen(review.memory) + sum(map(_of_output, pieces.snapshots()))
    own = COPIES * _of_parameters(review.loss) + kept_for_backward(pieces.loss, review.loss)
    return step, teacher, snapshots // arm.k, own


def kept_for_backward(function: Callable[[], Tensor], module: nn.Module) -> int:
    """Return the bytes that a loss keeps for its backward pass, without the parameters of a module."""
    own = {_storage(parameter)._cdata for parameter in module.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor)._cdata not in own:
            kept[_storage(tensor)._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = function()
    found = _bytes(kept.values())
    del loss
    return found


def _of_parameters(module: nn.Module) -> int:
    return _bytes(module.parameters())


def _of_buffers(module: nn.Module) -> int:
    return _bytes(module.buffers())


def _of_frozen(module: nn.Module) -> int:
    """Return the bytes of frozen networks: as they are, and folded, where each convolution has weights and a bias."""
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    folded = sum(part.weight.nbytes + part.weight.itemsize * part.out_channels for part in convolutions)
    return _of_parameters(module) + _of_buffers(module) + folded


def _of_output(output: Output) -> int:
    return _bytes([*output.features.values(), *output.preactivations.values()])


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of tensors, each storage once."""
    return sum({_storage(tensor)._cdata: _storage(tensor).nbytes() for tensor in tensors}.values())


def _alive() -> set[int]:
    """Return the names of the storages of all tensors that Python can reach."""
    return {_storage(tensor)._cdata for tensor in _reachable()}


def _held(before: set[int]) -> int:
    """Return the bytes of the storages that were made since `_alive` was called."""
    return _bytes(tensor for tensor in _reachable() if _storage(tensor)._cdata not in before)


def _reachable() -> list[Tensor]:
    gc.collect()
    return [one for one in gc.get_objects() if issubclass(type(one), Tensor) and one.layout == torch.strided]


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _saved(state: object) -> int:
    """Return the size of a state in a torch file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()
