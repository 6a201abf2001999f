"""The cost of each arm relative to a baseline of the same task and student, and whether costs were measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tskd_tune.records.entries.row import UNKNOWN, Cost
from tskd_tune.reports.findings.grouping import alike, few
from tskd_tune.reports.findings.records import ArmFindings, Baseline


def with_cost_ratios(arms: Sequence[ArmFindings]) -> tuple[list[ArmFindings], list[Baseline]]:
    """Return the arms with their cost ratios, and the baseline of the ratios for each task and student."""
    groups = alike((arm for arm in arms if arm.cost_seconds), lambda arm: arm.setting)
    bases = {arm.arm: base_of(group) for group in groups for arm in group}
    found = [replace(arm, cost_ratio=_ratio(arm, bases[arm.arm])) if arm.arm in bases else arm for arm in arms]
    return found, [_named(group) for group in groups]


def sharing(arms: Sequence[ArmFindings]) -> str:
    """Return sentences on the trainings that shared a GPU, within a process or between processes; empty for none.

    On a CPU the steps of trainings that share a process follow one another, so their times are as of trainings alone.
    """
    return " ".join(filter(None, [_in_one_process(arms), _between_processes(arms)]))


def _in_one_process(arms: Sequence[ArmFindings]) -> str:
    counts = {arm.arm: sorted(counted) for arm in arms if (counted := {cost.together for cost in _on_gpus(arm)})}
    every = {count for counted in counts.values() for count in counted}
    if max(every, default=1) == 1:
        return ""
    if len(every) == 1:
        return (
            f"Times and memory are those of {every.pop()} trainings that shared a GPU in one process: compare them only"
            " with those of equally many."
        )
    return (
        f"Times and memory were not measured alike, as unequally many trainings shared a GPU in one process"
        f" ({_told(counts)}). Compare only those of equally many."
    )


def _between_processes(arms: Sequence[ArmFindings]) -> str:
    shares = {arm.arm: sorted(found) for arm in arms if (found := {cost.gpu_share for cost in _on_gpus(arm)})}
    every = {share for found in shares.values() for share in found}
    if min(every, default=1.0) == 1:
        return ""
    if len(every) == 1:
        return (
            f"Times are those of trainings with {every.pop():g} of a GPU each, which other processes used too: compare"
            " them only with those of equal shares."
        )
    return (
        f"Times were not measured alike, as trainings had unequal shares of a GPU ({_told(shares)}). Compare only those"
        " of equal shares."
    )


def _told(amounts: Mapping[str, Sequence[float]]) -> str:
    """Return the amounts with the arms that had them, as words; an arm may have had several."""
    groups: dict[str, list[str]] = {}
    for arm, found in amounts.items():
        low, high = f"{found[0]:g}", f"{found[-1]:g}"
        groups.setdefault(low if low == high else f"{low} to {high}", []).append(arm)
    return "; ".join(f"{amount}: {few(names)}" for amount, names in groups.items())


def _on_gpus(arm: ArmFindings) -> list[Cost]:
    return [row.cost for row in arm.rows if row.status == "done" and row.cost.device not in ("cpu", UNKNOWN)]


def base_of(arms: Sequence[ArmFindings]) -> ArmFindings:
    """Return the first arm without a review, otherwise the first arm."""
    return next((arm for arm in arms if not arm.reviewed), arms[0])


def _named(arms: Sequence[ArmFindings]) -> Baseline:
    base = base_of(arms)
    return Baseline(base.arm, "the first" if base.reviewed else "the first without a review")


def _ratio(arm: ArmFindings, base: ArmFindings) -> float | None:
    return arm.cost_seconds / base.cost_seconds if arm.cost_seconds and base.cost_seconds else None
