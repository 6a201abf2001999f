"""The contract of a distiller: a module that turns two outputs and a batch into named losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic

import torch
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Out
from tskd_tune.kinds import made_by, read_needs
from tskd_tune.registry import Component, Registry


class Need(StrEnum):
    """What a distiller may ask of the networks and the task; `check` refuses a need that they cannot supply."""

    LOGITS = "logits"
    FEATURES = "features"
    PREACTIVATIONS = "preactivations"
    EMBEDDING = "embedding"
    INDICES = "indices"
    BATCH_NORMS = "batch_norms"
    TRAINABLE_TEACHER = "trainable_teacher"
    BOXES = "boxes"


class Distiller(nn.Module, ABC, Generic[Out]):
    """A distillation loss; its parameters join the optimizer, and its state dict joins the checkpoint.

    A constructor takes one positional argument, the `Probe` of the networks and the task, and its options
    as keyword-only arguments.

    >>> from tskd_tune.contracts import Batch, Classified
    >>> class Hint(Distiller):
    ...     needs = frozenset({Need.LOGITS})
    ...
    ...     def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
    ...         return {"hint": (student.logits - teacher.logits).square().mean()}
    >>> from tskd_tune.networks import NETWORKS
    >>> student, teacher = NETWORKS.build("resnet8", 10), NETWORKS.build("resnet20", 10)
    >>> batch = Batch(torch.randn(4, 3, 32, 32), targets=torch.zeros(4, dtype=torch.long), indices=torch.arange(4))
    >>> losses = Hint()(student(batch.images), teacher(batch.images), batch)
    >>> {name: loss.shape for name, loss in losses.items()}
    {'hint': torch.Size([])}

    Attributes:
        needs: what the distiller uses. If nothing, the distiller is not called, and the teacher runs in reviews only.
        task_weight: the weight of the task loss (0.1 for Hinton's distillation, 0 for knowledge adjustment).
        smallest_batch: the fewest images per batch with which the losses are defined.
        separable: whether each loss of a batch is the mean of the losses of its two halves, so that several devices can
            each compute the loss of their share of a batch. Otherwise, and with `Need.INDICES`, each gets the outputs
            of the whole batch, as far as ``needs`` names them, and `forward` must draw from `begin_epoch`'s stream
            alone.
        in_pieces: whether each loss of a batch is the mean of the losses of its two halves where the distiller's own
            batch norms are in eval mode and `begin_step` got the batch. Then a batch may be computed in micro-batches
            (``training.accumulate``). In training these batch norms take statistics of each micro-batch, as those of
            the student do. What is `separable` can always be computed so.
        masks: whether the losses leave out the padding of images of different sizes, ``Batch.sizes``.
        capturable: whether `forward` does the same operations in every step of a phase and never waits for the device,
            so that one captured graph can stand for all these steps.
    """

    needs: frozenset[Need] = frozenset()
    task_weight: float = 1.0
    smallest_batch: int = 1
    separable: bool = False
    in_pieces: bool = False
    masks: bool = False
    capturable: bool = True

    @classmethod
    def needs_with(cls, **options: Any) -> frozenset[Need]:
        """Return the needs under these options, before the distiller is built; override it where options decide."""
        return cls.needs

    @classmethod
    def masks_with(cls, **options: Any) -> bool:
        """Return `masks` under these options, before the distiller is built; override it where options decide."""
        return cls.masks

    @abstractmethod
    def forward(self, student: Out, teacher: Out, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the weighted losses of a batch, scalars by name.

        Args:
            student: the student's output, whose tensors begin with the batch size: logits ``[B, classes]``, features
                ``[B, C, H, W]`` by stage.
            teacher: the teacher's output on the same images; its tensors have gradients only if the teacher is trained.
            batch: images ``[B, channels, H, W]``, targets, and the indices of the samples in the training set.
        """

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Prepare an epoch before its first batch.

        A number of the loss that changes from epoch to epoch, such as the weight in a warm-up, is a buffer that this
        method fills in place; see `tskd_tune.contracts.weighted`.

        Args:
            epoch: counted from 0.
            random: the distiller's own stream of the epoch, on the CPU. A distiller that draws from no other generator
                is resumed exactly.
        """

    def begin_step(self, whole: AnyBatch | None) -> None:
        """Prepare a step before its first `forward`; a step that is computed in micro-batches has several.

        Args:
            whole: the batch of the step, where each `forward` gets a micro-batch; None where it gets the whole batch.
        """

    def phase(self, epoch: int) -> Hashable:
        """Return equal values for epochs whose steps do the same operations; the epoch number alone decides."""
        return None

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generators, in a fixed order, from which `forward` draws beside torch's default generators.

        They are seeded anew, in place, by `begin_epoch`. A checkpoint within an epoch saves their states.
        """
        return ()

    def trains_teacher(self, epoch: int) -> bool:
        """Tell whether the teacher is trained in an epoch, counted from 0; otherwise the teacher is frozen."""
        return Need.TRAINABLE_TEACHER in self.needs


DISTILLERS: Registry[Distiller] = Registry("distillers", Distiller)


def needs_of(component: Component) -> frozenset[Need]:
    """Return the needs of a distiller with these options; those of a function are of the class that it returns.

    Raises:
        InputError: the needs are no set of `Need`.
    """
    factory = DISTILLERS.entry(component.name).factory
    told = getattr(factory, "needs_with", None)
    needs = getattr(made_by(factory), "needs", frozenset()) if told is None else told(**component.options())
    return read_needs(needs, Need, f"distiller: '{component.name}'")


def masks_of(component: Component) -> bool:
    """Tell whether a distiller with these options leaves out the padding of images; see `Distiller.masks`."""
    factory = DISTILLERS.entry(component.name).factory
    if hasattr(factory, "masks_with"):
        return bool(factory.masks_with(**component.options()))
    return bool(getattr(made_by(factory), "masks", False))
