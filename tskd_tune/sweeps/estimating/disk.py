"""Counts the bytes that a run leaves on disk, from the sizes of each arm's networks and states, without training.

A finished training of a sweep keeps its student, and a single training its last checkpoint too. While a training runs,
it keeps its last two checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import teacher_network
from tskd_tune.records.kept.kept_hits import bytes_of_hits
from tskd_tune.tasks.base import Task
from tskd_tune.training.optim import kept_after_a_step
from tskd_tune.training.trainer import Trainer

# Measured bytes: the header of a tensor in a torch file; the report page with its figures; a row and Tune's records of
# the training; a line of the history and W&B's line; the files that W&B keeps of an offline training; the answers to
# single samples.
OF_TENSOR, OF_PAGE, OF_ROW, OF_EPOCH, OF_WANDB, OF_EXAMPLES = 300, 5_000_000, 51_000, 700, 13_000, 13_000


@dataclass(frozen=True)
class Sizes:
    """The bytes of a training's checkpoint, of its student's file, and of the file of the samples that are right."""

    state: int
    student: int
    hits: int = 0


def sizes(experiment: Experiment, trainer: Trainer) -> Sizes:
    """Return the sizes of a training at its end; the trainer may be newly built or may have trained."""
    student = size_of(trainer.student.state_dict())
    state = {name: part for name, part in trainer.state_dict().items() if name not in ("optimizers", "review")}
    kept = sum(_kept(optimizer) for optimizer in trainer.optimizers)
    review = 0
    if trainer.review is not None and experiment.review is not None:
        review = size_of(trainer.review.loss.state_dict()) + trainer.review.memory.k * student
    return Sizes(size_of(state) + kept + review, student, bytes_of_hits(experiment, trainer.task))


def of_training(sizes: Sizes, epochs: int, *, single: bool = False) -> int:
    """Return the bytes of a finished training: student, history, row, examples, hits and W&B's files.

    Args:
        sizes: the sizes of the training's files.
        epochs: the length of the training.
        single: whether the training is no part of a sweep, and keeps its last checkpoint.
    """
    networks = (sizes.state if single else 0) + sizes.student
    return networks + OF_ROW + epochs * OF_EPOCH + OF_WANDB + OF_EXAMPLES + sizes.hits


def of_checkpoints(sizes: Iterable[Sizes], at_once: int) -> int:
    """Return the most bytes that the checkpoints of trainings take that run at once: two of each."""
    return 2 * at_once * max((one.state for one in sizes), default=0)


def of_teacher(experiment: Experiment, task: Task) -> int:
    """Return the bytes of a teacher's file in the cache, with the snapshots of its training that a replay needs."""
    assert experiment.teacher is not None
    network = teacher_network(experiment, task.facts())
    return size_of(network.state_dict()) * (1 + (experiment.teacher.replay or 0))


def size_of(state: object) -> int:
    """Return the bytes of a state in a torch file: the bytes of its tensors and of their headers."""
    return sum(_tensor_size(tensor) for tensor in _tensors(state))


def _tensors(state: object) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    inner = state.values() if isinstance(state, Mapping) else state if isinstance(state, list | tuple) else ()
    for value in inner:
        yield from _tensors(value)


def _tensor_size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size() + OF_TENSOR


def _kept(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimizer's state after a step on all of its parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shapes = Counter((parameter.shape, parameter.dtype) for parameter in parameters)
    return sum(
        count * size_of(kept_after_a_step(optimizer, torch.empty(shape, dtype=dtype, device="meta")))
        for (shape, dtype), count in shapes.items()
    )
