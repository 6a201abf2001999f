"""Several distillers at once, such as knowledge adjustment with attention transfer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, StringConstraints
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Output, Probe
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need, masks_of, needs_of
from tskd_tune.registry import Component

Parts = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=r"^\w+$")], Annotated[Component, DISTILLERS.slot(without="combined")]
    ],
    Field(min_length=1, description="label -> a distiller with its options", examples=[{"a": "kd", "b": "at"}]),
]


@DISTILLERS.register("combined", source="the sum of its parts; the task's weight is the smallest that a part gives it")
class Combined(Distiller[Output]):
    """Add up the losses of several distillers, each named by its label."""

    @classmethod
    def needs_with(cls, **options: Any) -> frozenset[Need]:
        """Return the needs of all parts."""
        return frozenset().union(*(needs_of(part) for part in options["parts"].values()))

    @classmethod
    def masks_with(cls, **options: Any) -> bool:
        """Tell whether all parts leave out the padding of images."""
        return all(map(masks_of, options["parts"].values()))

    def __init__(self, probe: Probe, *, parts: Parts, task_weight: NonNegativeFloat | None = None) -> None:
        """Build the parts, and set the weight of the task's own loss (null: the smallest among the parts').

        Args:
            parts: label -> a distiller with its options; the losses of all parts are added.
            task_weight: weight of the task's own loss, the cross-entropy; null: the smallest task weight among the
                parts.
        """
        super().__init__()
        self.needs = self.needs_with(parts=parts)
        self.parts = nn.ModuleDict({label: DISTILLERS.make(part, probe) for label, part in parts.items()})
        self.masks = self.masks_with(parts=parts)
        self.smallest_batch = max(part.smallest_batch for part in self._parts())
        self.separable = all(part.separable for part in self._parts())
        self.in_pieces = all(part.separable or part.in_pieces for part in self._parts())
        self.capturable = all(part.capturable for part in self._parts())
        self.task_weight = min(part.task_weight for part in self._parts()) if task_weight is None else task_weight

    def forward(self, student: Output, teacher: Output, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the losses of all parts: named ``label`` if the part has one loss, otherwise ``label_name``."""
        losses: dict[str, Tensor] = {}
        # What a detector finds is computed when it is cut off, so only do it where a teacher learns.
        constant = teacher.detached() if Need.TRAINABLE_TEACHER in self.needs else teacher
        for label, part in zip(self.parts, self._parts(), strict=True):
            # The losses of the other parts do not train the teacher of a part that trains its teacher.
            found = part(student, teacher if Need.TRAINABLE_TEACHER in part.needs else constant, batch)
            losses |= {label if len(found) == 1 else f"{label}_{name}": loss for name, loss in found.items()}
        return losses

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Prepare all parts; they draw from one stream, in their order."""
        for part in self._parts():
            part.begin_epoch(epoch, random)

    def begin_step(self, whole: AnyBatch | None) -> None:
        """Prepare all parts."""
        for part in self._parts():
            part.begin_step(whole)

    def phase(self, epoch: int) -> Hashable:
        """Return the phases of all parts."""
        return tuple(part.phase(epoch) for part in self._parts())

    def generators(self) -> Sequence[torch.Generator]:
        """Return the generators of all parts."""
        return [generator for part in self._parts() for generator in part.generators()]

    def trains_teacher(self, epoch: int) -> bool:
        """Tell whether a part trains the teacher in an epoch."""
        return any(part.trains_teacher(epoch) for part in self._parts())

    def _parts(self) -> list[Distiller]:
        return [part for part in self.parts.values() if isinstance(part, Distiller)]
