"""Counts the bytes that a run leaves on disk, from the sizes of each arm's networks and states, without training.

A finished training keeps one checkpoint and its student. While it trains, it keeps the checkpoint before the last one
too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import teacher_network
from tskd_tune.tasks.base import Task
from tskd_tune.training.trainer import Trainer

# Measured bytes: the header of a tensor in a torch file; the report page with its figures; a row and Tune's records of
# the training; a line of the history and W&B's line; the files that W&B keeps of an offline training.
OF_TENSOR, OF_PAGE, OF_ROW, OF_EPOCH, OF_WANDB = 300, 5_000_000, 75_000, 700, 38_000
# The numbers that an optimizer other than SGD keeps per parameter; SGD keeps one, if it has a momentum.
OF_ADAM: Final = 2


@dataclass(frozen=True)
class Sizes:
    """The bytes of a training's checkpoint, and of its student's file."""

    state: int
    student: int


def sizes(experiment: Experiment, trainer: Trainer) -> Sizes:
    """Return the sizes of a training at its end; the trainer may be newly built or may have trained."""
    student = size_of(trainer.student.state_dict())
    state = {name: part for name, part in trainer.state_dict().items() if name not in ("optimizers", "review")}
    kept = sum(_kept(optimizer) for optimizer in trainer.optimizers)
    review = 0
    if trainer.review is not None and experiment.review is not None:
        review = size_of(trainer.review.loss.state_dict()) + trainer.review.memory.k * student
    return Sizes(size_of(state) + kept + review, student)


def of_training(sizes: Sizes, epochs: int) -> int:
    """Return the bytes of a finished training: checkpoint, student, history, row and W&B's files."""
    return sizes.state + sizes.student + OF_ROW + epochs * OF_EPOCH + OF_WANDB


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
    found = 0
    for group in optimizer.param_groups:
        times = (1 if group.get("momentum") else 0) if isinstance(optimizer, torch.optim.SGD) else OF_ADAM
        found += times * sum(_tensor_size(parameter) for parameter in group["params"])
    return found
