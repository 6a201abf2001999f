"""The arms of a run, and which of them are compared with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.declared import Compare
from tskd_tune.reports.findings.grouping import alike
from tskd_tune.reports.findings.records import Setting, values_by_seed

Pairs: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class Trained:
    """One arm: its label, its task and student, its rows, at most one per seed, and the seeds that collapsed."""

    label: str
    setting: Setting
    reviewed: bool
    rows: Sequence[Row]
    collapsed: tuple[int, ...] = ()

    def values(self, metric: str) -> dict[int, float]:
        """Return seed -> the last epoch's value, for the seeds that are done and have a finite value."""
        return values_by_seed(self.rows, metric)


def pairs_of(arms: Sequence[Trained], declared: Compare) -> tuple[Pairs, str]:
    """Return (arm, baseline) for each comparison, and a sentence on who chose the comparisons."""
    if declared.pairs:
        return [(arm, baseline) for arm, baseline in declared.pairs], "The comparisons are those of the sweep file."
    named, controls = declared.baseline, declared.controls or {}
    pairs, baselines = [], []
    for group in alike(arms, setting_of):
        compared = [arm for arm in group if arm.label not in controls]
        base = next((arm for arm in compared if arm.label == named), None) or _first_plain(compared or group)
        found = [(arm.label, base.label) for arm in compared if arm is not base]
        pairs += found
        baselines += [base] if found else []
    there = {arm.label for arm in arms}
    ladder = [(arm, control) for control, arm in controls.items() if {arm, control} <= there]
    return [*pairs, *ladder], " ".join(filter(None, [_said_of(baselines, named), _said_of_controls(ladder)]))


def setting_of(arm: Trained) -> Setting:
    """Return the task and the student of an arm."""
    return arm.setting


def _first_plain(group: Sequence[Trained]) -> Trained:
    return next((arm for arm in group if not arm.reviewed), group[0])


def _said_of_controls(ladder: Pairs) -> str:
    controlled = list(dict.fromkeys(f"'{arm}'" for arm, _ in ladder))
    verb, whose = ("is", "its") if len(controlled) == 1 else ("are", "their")
    return f"{', '.join(controlled)} {verb} compared with {whose} controls." if ladder else ""


def _said_of(baselines: Sequence[Trained], named: str | None) -> str:
    if not baselines:
        return ""
    names = ", ".join(f"'{base.label}'" for base in baselines)
    if [base.label for base in baselines] == [named]:
        return f"Every arm is compared with {names}, as the sweep file says."
    within = " of its task and student" if len(baselines) > 1 else ""
    what = "the first arm" if any(base.reviewed for base in baselines) else "the first arm without a review"
    return f"Every arm is compared with {what}{within}: {names}."
