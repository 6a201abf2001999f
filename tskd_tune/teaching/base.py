"""The contract of a teacher method: losses beside the task loss while a teacher is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic

import torch
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Out, Shapes
from tskd_tune.kinds import made_by, read_needs
from tskd_tune.registry import Component, Registry


class Need(StrEnum):
    """What a teacher method may ask for; with ``student`` the teacher depends on the student and is trained for it."""

    LOGITS = "logits"
    FEATURES = "features"
    INDICES = "indices"
    LAYERS = "layers"
    STUDENT = "student"


@dataclass(frozen=True)
class Setting:
    """What a teacher method may know when it is built.

    Attributes:
        network: the teacher that will be trained.
        teacher: its shapes.
        student: the shapes of the student that the teacher will teach.
        tail: makes the part of a new student behind a stage, from ``[B, C, H, W]`` to logits ``[B, classes]``.
        classes: the number of classes.
        samples: the number of training samples.
        epochs: the number of epochs of the teacher's training.
    """

    network: nn.Module
    teacher: Shapes
    student: Shapes
    tail: Callable[[str], nn.Module]
    classes: int
    samples: int
    epochs: int


class TeacherMethod(nn.Module, ABC, Generic[Out]):
    """Losses beside the task loss while a teacher is trained.

    In the training of a teacher, the method takes the place of the distiller. Its parameters join the optimizer, its
    state joins the checkpoint. A constructor takes one positional argument, the `Setting`, and its options as
    keyword-only arguments.

    Attributes:
        needs: what the method uses; a method that needs nothing is not called.
        task_weight: the weight of the task loss.
        smallest_batch: the fewest images per batch with which the losses are defined.
        separable: see `tskd_tune.distillers.base.Distiller`.
        in_pieces: see `tskd_tune.distillers.base.Distiller`.
        capturable: see `tskd_tune.distillers.base.Distiller`.
    """

    needs: frozenset[Need] = frozenset()
    task_weight: float = 1.0
    smallest_batch: int = 1
    separable: bool = False
    in_pieces: bool = False
    capturable: bool = True

    @abstractmethod
    def forward(self, network: Out, above: Out | None, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the weighted losses, scalars by name.

        Args:
            network: the output of the trained teacher on the batch.
            above: None; a distiller has the output of its teacher here.
            batch: the batch.
        """

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Prepare an epoch before its first batch.

        Args:
            epoch: counted from 0.
            random: the method's own stream of the epoch, on the CPU. A method that draws from no other generator is
                resumed exactly.
        """

    def begin_step(self, whole: AnyBatch | None) -> None:
        """Prepare a step before its first `forward`; see `tskd_tune.distillers.base.Distiller.begin_step`."""

    def phase(self, epoch: int) -> Hashable:
        """Return equal values for epochs whose steps do the same operations; the epoch number alone decides."""
        return None

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generators that `forward` draws from; see `tskd_tune.distillers.base.Distiller.generators`."""
        return ()


TEACHER_METHODS: Registry[TeacherMethod] = Registry("teacher_methods", TeacherMethod)


def method_needs(component: Component) -> frozenset[Need]:
    """Return what a teacher method needs; the needs of a function are of the class that it returns.

    Raises:
        InputError: the needs are no set of `Need`.
    """
    made = made_by(TEACHER_METHODS.entry(component.name).factory)
    return read_needs(getattr(made, "needs", frozenset()), Need, f"teacher.training.method: '{component.name}'")
