"""Cases of the contract of distillers: a distiller, and what a student and a teacher computed of one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from tskd_tune import networks
from tskd_tune.contracts import AnyBatch, Batch, Classified, Probe
from tskd_tune.distillers import DISTILLERS, Distiller, Need
from tskd_tune.testing.base import Options

CLASSES, SAMPLES, SIZE = 5, 12, 8
# Three teachers: one of the same family, one with other widths and signed features, and one with larger images.
PAIRS = {"deeper": ("resnet14", 8), "wider": ("wrn_16_2", 8), "sharper": ("resnet8x4", 16)}


class LossCase(ABC):
    """A distiller with what a student and a teacher computed of one batch.

    Attributes:
        distiller: the distiller, in epoch 1.
        batch: the batch.
    """

    distiller: Distiller
    batch: AnyBatch

    @abstractmethod
    def losses(self) -> dict[str, Tensor]:
        """Return the losses of the batch."""

    @abstractmethod
    def losses_of(self, which: slice) -> dict[str, Tensor]:
        """Return the losses of some images of the batch, as the networks compute them in the whole batch."""

    @abstractmethod
    def parts(self) -> list[Tensor]:
        """Return the tensors whose gradients show an option."""

    def observed(self) -> list[float | str]:
        """Return the values that show a changed option: attributes, and losses and gradients of several epochs."""
        found: list[float | str] = [str(sorted(self.distiller.needs)), self.distiller.task_weight]
        for epoch in range(6):
            self.distiller.begin_epoch(epoch, torch.Generator().manual_seed(epoch))
            losses = self.losses()
            found += [f"{key}: {value.item()}" for key, value in losses.items()]
            found += [str(self.distiller.phase(epoch)), str(self.distiller.trains_teacher(epoch))]
            parts = [part for part in self.parts() if part.requires_grad]
            total = sum(losses.values(), torch.zeros((), requires_grad=True))
            given = torch.autograd.grad(total, parts, retain_graph=True, allow_unused=True)
            found += [0.0 if gradient is None else gradient.norm().item() for gradient in given]
        return found


class Case(LossCase):
    """A distiller with the outputs of a student and a teacher, both classifiers, on one batch."""

    def __init__(self, name: str, options: Options, pair: str = "deeper") -> None:
        """Build the networks, the distiller and the batch from the same seed."""
        torch.manual_seed(0)
        kind, size = PAIRS[pair]
        student, teacher = networks.build("resnet8", CLASSES), networks.build(kind, CLASSES)
        targets = torch.arange(SAMPLES) % CLASSES
        probe = Probe(student.probe(3, SIZE), teacher.probe(3, size), CLASSES, targets, teacher.stage_norms())
        self.distiller: Distiller = DISTILLERS.build(name, probe, **options)
        self.distiller.begin_epoch(1, torch.Generator().manual_seed(0))
        indices = torch.tensor([1, 4, 7, 9])
        self.batch = Batch(torch.randn(4, 3, SIZE, SIZE), targets[indices], indices)
        with torch.set_grad_enabled(Need.TRAINABLE_TEACHER in self.distiller.needs):
            self.teacher: Classified = teacher(torch.randn(4, 3, size, size))
        self.student: Classified = student(self.batch.images)
        self.network = student

    def losses(self) -> dict[str, Tensor]:
        """Return the losses of the batch."""
        return dict(self.distiller(self.student, self.teacher, self.batch))

    def losses_of(self, which: slice) -> dict[str, Tensor]:
        """Return the losses of some images of the batch."""
        part = Batch(self.batch.images[which], self.batch.targets[which], self.batch.indices[which])
        return dict(self.distiller(part_of(self.student, which), part_of(self.teacher, which), part))

    def parts(self) -> list[Tensor]:
        """Return logits and features of both networks."""
        return [part for output in (self.student, self.teacher) for part in (output.logits, *output.features.values())]


def part_of(output: Classified, which: slice) -> Classified:
    """Return the outputs of a network for some images of a batch."""
    features, preactivations = (
        {stage: map_[which] for stage, map_ in maps.items()} for maps in (output.features, output.preactivations)
    )
    return Classified(output.logits[which], features, preactivations, output.embedding[which])
