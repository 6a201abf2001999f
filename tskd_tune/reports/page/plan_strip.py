"""The drawing of a plan: which epochs memorize and which review, as strokes along a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def strips(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each plan that the arms of a summary follow, with its arms and its marks."""
    return [_plan(group) for group in _plans(arms)]


def _plans(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the arms that follow the same plan; arms without a review have none to draw."""
    found: list[dict[str, Any]] = []
    for arm in arms:
        if not arm["plan"]["review"] and not arm["plan"]["memorize"]:
            continue
        plan = {**arm["plan"], "epochs": arm["epochs_planned"]}
        same = next((group for group in found if group["plan"] == plan), None)
        if same is None:
            found.append({"plan": plan, "arms": [arm["arm"]]})
        else:
            same["arms"].append(arm["arm"])
    return found


@dataclass(frozen=True)
class Mark:
    """A stroke in the drawing of a plan, in percent of its width."""

    left: float
    width: float
    kind: str


def _plan(group: Mapping[str, Any]) -> dict[str, Any]:
    plan = group["plan"]
    step = 100 / max(plan["epochs"], 1)
    width = max(step, 0.45)
    marks = [
        Mark(round(epoch * step, 3), round(width, 3), kind) for kind in ("memorize", "review") for epoch in plan[kind]
    ]
    return {**plan, "arms": group["arms"], "marks": marks}
