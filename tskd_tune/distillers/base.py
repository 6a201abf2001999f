"""What every distiller is: a module that turns two outputs and a batch into named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Output
from tskd_tune.registry import Component, Registry


class Need(StrEnum):
    """What a distiller may ask of the networks and the task; `check` refuses what they cannot supply."""

    LOGITS = "logits"
    FEATURES = "features"
    PREACTIVATIONS = "preactivations"
    EMBEDDING = "embedding"
    INDICES = "indices"
    BATCH_NORMS = "batch_norms"
    TRAINABLE_TEACHER = "trainable_teacher"


class Distiller(nn.Module, ABC):
    """A distillation loss; its parameters join the optimizer, its state dict the checkpoint.

    A constructor takes one positional argument, the `Probe` of the networks and the task, and its options
    as keyword-only arguments.

    >>> class Hint(Distiller):
    ...     needs = frozenset({Need.LOGITS})
    ...
    ...     def forward(self, student: Output, teacher: Output, batch: Batch) -> Mapping[str, Tensor]:
    ...         return {"hint": (student.logits - teacher.logits).square().mean()}
    >>> from tskd_tune.networks import NETWORKS
    >>> student, teacher = NETWORKS.build("resnet8", 10), NETWORKS.build("resnet20", 10)
    >>> batch = Batch(torch.randn(4, 3, 32, 32), targets=torch.zeros(4, dtype=torch.long), indices=torch.arange(4))
    >>> losses = Hint()(student(batch.images), teacher(batch.images), batch)
    >>> {name: loss.shape for name, loss in losses.items()}
    {'hint': torch.Size([])}

    Attributes:
        needs: what it reads; with nothing in it the teacher does not run for its sake.
        task_weight: the weight of the task's own loss beside it (Hinton's 0.1, knowledge adjustment's 0).
        smallest_batch: the fewest images of a batch that it learns something from.
        separable: whether each loss of a batch is the mean of the losses of its two halves, so that several devices can
            each compute the loss of their share of a batch.
        capturable: whether `forward` does the same operations in every step of a phase and never waits for the device,
            so that one captured graph can stand for all these steps.
    """

    needs: frozenset[Need] = frozenset()
    task_weight: float = 1.0
    smallest_batch: int = 1
    separable: bool = False
    capturable: bool = True

    @classmethod
    def needs_with(cls, **options: Any) -> frozenset[Need]:
        """Return what it reads under these options, for those whose options decide; known before it is built."""
        return cls.needs

    @abstractmethod
    def forward(self, student: Output, teacher: Output, batch: Batch) -> Mapping[str, Tensor]:
        """Return the weighted losses, scalars by name; only a trainable teacher's tensors carry gradients."""

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Hear the number of the epoch before its first batch.

        A number of the loss that changes from epoch to epoch, such as the weight in a warm-up, is a buffer that this
        method fills in place; see `tskd_tune.contracts.weighted`.

        Args:
            epoch: counted from 0.
            random: the distiller's own stream of the epoch, on the CPU; what is drawn from it alone resumes exactly.
        """

    def phase(self, epoch: int) -> Hashable:
        """Return what tells epochs apart whose steps do different operations; it depends on the epoch alone."""
        return None

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generators, in a fixed order, from which `forward` draws beside torch's default generators.

        They are seeded anew, in place, by `begin_epoch`. A checkpoint within an epoch saves their states.
        """
        return ()

    def trains_teacher(self, epoch: int) -> bool:
        """Tell whether the teacher learns in an epoch, counted from 0; in others it is as frozen as any."""
        return Need.TRAINABLE_TEACHER in self.needs


DISTILLERS: Registry[Distiller] = Registry("distillers", Distiller)


def needs_of(component: Component) -> frozenset[Need]:
    """Return what a distiller with these options reads; a factory that says nothing reads nothing."""
    factory = DISTILLERS.entry(component.name).factory
    needs: frozenset[Need] = (
        factory.needs_with(**component.options()) if hasattr(factory, "needs_with") else frozenset()
    )
    return needs
