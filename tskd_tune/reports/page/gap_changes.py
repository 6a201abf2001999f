"""The changes of L_ST and of the gap to the teacher per arm, for two sections of the page."""

from __future__ import annotations

from tskd_tune.reports.findings.effects import GapChange, gap_change
from tskd_tune.reports.page.section import Page


def gap_changes(page: Page) -> list[GapChange]:
    """Return the change of L_ST and of the gap for each arm that measured both in enough reviews."""
    return [found for arm in page.curves if (found := gap_change(arm.arm, arm.seeds))]
