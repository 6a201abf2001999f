"""The drawing of a plan: a strip with a stroke for each epoch that memorizes or reviews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.records.entries.row import PlanRecord
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.records import ArmFindings


@dataclass(frozen=True)
class Mark:
    """A stroke in the drawing of a plan, in percent of its width; ``kind`` is ``memorize`` or ``review``."""

    left: float
    width: float
    kind: str


@dataclass(frozen=True)
class Strip:
    """A plan: the arms with this plan, its epochs and its strokes."""

    arms: tuple[str, ...]
    memorize: tuple[int, ...]
    review: tuple[int, ...]
    epochs: int
    marks: tuple[Mark, ...]


def strips(arms: Sequence[ArmFindings]) -> list[Strip]:
    """Return each plan of the arms; arms without a review have no plan."""
    drawn = [arm for arm in arms if arm.plan.review or arm.plan.memorize]
    groups = alike(drawn, lambda arm: (arm.plan, arm.epochs_planned))
    return [_strip(group[0].plan, group[0].epochs_planned, [arm.arm for arm in group]) for group in groups]


def _strip(plan: PlanRecord, epochs: int, arms: Sequence[str]) -> Strip:
    step = 100 / max(epochs, 1)
    width = max(step, 0.45)
    marks = [
        Mark(round(epoch * step, 3), round(width, 3), kind)
        for kind, its in (("memorize", plan.memorize), ("review", plan.review))
        for epoch in its
    ]
    return Strip(tuple(arms), tuple(plan.memorize), tuple(plan.review), epochs, tuple(marks))
