"""The cost of each arm relative to a baseline of the same task and student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.records import ArmFindings, Baseline


def with_cost_ratios(arms: Sequence[ArmFindings]) -> tuple[list[ArmFindings], list[Baseline]]:
    """Return the arms with their cost ratios, and the baseline of the ratios for each task and student."""
    groups = alike((arm for arm in arms if arm.cost_seconds), lambda arm: arm.setting)
    bases = {arm.arm: _base(group) for group in groups for arm in group}
    found = [replace(arm, cost_ratio=_ratio(arm, bases[arm.arm])) if arm.arm in bases else arm for arm in arms]
    return found, [_named(group) for group in groups]


def _base(arms: Sequence[ArmFindings]) -> ArmFindings:
    """Return the first arm without a review, otherwise the first arm."""
    return next((arm for arm in arms if not arm.reviewed), arms[0])


def _named(arms: Sequence[ArmFindings]) -> Baseline:
    base = _base(arms)
    return Baseline(base.arm, "the first" if base.reviewed else "the first without a review")


def _ratio(arm: ArmFindings, base: ArmFindings) -> float | None:
    return arm.cost_seconds / base.cost_seconds if arm.cost_seconds and base.cost_seconds else None
