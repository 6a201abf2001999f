"""The changes of L_ST and of the gap to the teacher per arm, for two sections of the page."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.reports.findings.effects import GapChange, gap_change
from tskd_tune.reports.page.section import Page


def gap_changes(page: Page) -> list[GapChange]:
    """Return the change of L_ST and of the gap for each arm that measured both in enough reviews."""
    found = [gap_change(arm.arm, arm.seeds, _unit(arm.teachers)) for arm in page.curves]
    return [one for one in found if one is not None]


def _unit(teachers: Sequence[int | None]) -> str:
    return "seed" if all(teacher is None for teacher in teachers) else "training"
