"""What every teacher method is: a module of losses that a teacher has beside its task's while it is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Output, Shapes
from tskd_tune.registry import Component, Registry


class Need(StrEnum):
    """What a teacher method may ask for; ``student``: the teacher then is that student's, and no other's."""

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
        student: the shapes of the student that it shall teach.
        tail: gives a new student of that kind behind a stage, ``[B, C, H, W]`` to logits ``[B, classes]``.
        classes: the number of classes.
        samples: the number of training samples.
        epochs: how long the teacher is trained.
    """

    network: nn.Module
    teacher: Shapes
    student: Shapes
    tail: Callable[[str], nn.Module]
    classes: int
    samples: int
    epochs: int


class TeacherMethod(nn.Module, ABC):
    """The losses beside the task's while a teacher is trained; parameters and state join the training's.

    It stands where a student's training has its distiller, and is called as one. A constructor takes one positional
    argument, the `Setting`, and its options as keyword-only arguments.

    Attributes:
        needs: what it reads; with nothing in it, it is not called.
        task_weight: the weight of the task's own loss beside it.
        smallest_batch: the fewest images of a batch that it learns something from.
        separable: see `tskd_tune.distillers.base.Distiller`.
        capturable: see `tskd_tune.distillers.base.Distiller`.
    """

    needs: frozenset[Need] = frozenset()
    task_weight: float = 1.0
    smallest_batch: int = 1
    separable: bool = False
    capturable: bool = True

    @abstractmethod
    def forward(self, network: Output, above: Output | None, batch: Batch) -> Mapping[str, Tensor]:
        """Return the weighted losses, scalars by name.

        Args:
            network: what the teacher that is being trained found in the batch.
            above: where a distiller has its teacher; a teacher has none.
            batch: the batch.
        """

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Hear the number of the epoch before its first batch.

        Args:
            epoch: counted from 0.
            random: the method's own stream of the epoch, on the CPU; what is drawn from it alone resumes exactly.
        """

    def phase(self, epoch: int) -> Hashable:
        """Return what tells epochs apart whose steps do different operations; it depends on the epoch alone."""
        return None

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generators that `forward` draws from; see `tskd_tune.distillers.base.Distiller.generators`."""
        return ()


TEACHER_METHODS: Registry[TeacherMethod] = Registry("teacher_methods", TeacherMethod)


def method_needs(component: Component) -> frozenset[Need]:
    """Return what a teacher method reads; a factory that says nothing reads nothing."""
    return frozenset(getattr(TEACHER_METHODS.entry(component.name).factory, "needs", ()))
