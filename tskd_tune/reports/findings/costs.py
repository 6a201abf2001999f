"""The cost of each arm relative to a baseline of the same task and student, and whether costs were measured alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tskd_tune.records.entries.row import UNKNOWN
from tskd_tune.reports.findings.grouping import alike, few
from tskd_tune.reports.findings.records import ArmFindings, Baseline


def with_cost_ratios(arms: Sequence[ArmFindings]) -> tuple[list[ArmFindings], list[Baseline]]:
    """Return the arms with their cost ratios, and the baseline of the ratios for each task and student."""
    groups = alike((arm for arm in arms if arm.cost_seconds), lambda arm: arm.setting)
    bases = {arm.arm: base_of(group) for group in groups for arm in group}
    found = [replace(arm, cost_ratio=_ratio(arm, bases[arm.arm])) if arm.arm in bases else arm for arm in arms]
    return found, [_named(group) for group in groups]


def sharing(arms: Sequence[ArmFindings]) -> str:
    """Return a sentence on the trainings that shared a GPU within one process; empty where none did.

    On a CPU the steps of trainings that share a process follow one another, so their times are as of trainings alone.
    """
    counts = {arm.arm: counted for arm in arms if (counted := _together(arm))}
    every = {count for counted in counts.values() for count in counted}
    if max(every, default=1) == 1:
        return ""
    if len(every) == 1:
        return (
            f"Times and memory are those of {every.pop()} trainings that shared a GPU in one process: compare them only"
            " with those of equally many."
        )
    groups: dict[str, list[str]] = {}
    for arm, counted in counts.items():
        low, high = min(counted), max(counted)
        groups.setdefault(str(low) if low == high else f"{low} to {high}", []).append(arm)
    told = "; ".join(f"{number}: {few(names)}" for number, names in groups.items())
    return (
        f"Times and memory were not measured alike, as unequally many trainings shared a GPU in one process ({told})."
        " Compare only those of equally many."
    )


def _together(arm: ArmFindings) -> set[int]:
    return {row.cost.together for row in arm.rows if row.status == "done" and row.cost.device not in ("cpu", UNKNOWN)}


def base_of(arms: Sequence[ArmFindings]) -> ArmFindings:
    """Return the first arm without a review, otherwise the first arm."""
    return next((arm for arm in arms if not arm.reviewed), arms[0])


def _named(arms: Sequence[ArmFindings]) -> Baseline:
    base = base_of(arms)
    return Baseline(base.arm, "the first" if base.reviewed else "the first without a review")


def _ratio(arm: ArmFindings, base: ArmFindings) -> float | None:
    return arm.cost_seconds / base.cost_seconds if arm.cost_seconds and base.cost_seconds else None
