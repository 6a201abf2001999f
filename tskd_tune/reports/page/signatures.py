"""The changes of L_ST and of the gap to the teacher per arm, for two sections of the page."""

from __future__ import annotations

from tskd_tune.reports.findings.effects import Signature, signature
from tskd_tune.reports.page.section import Page


def signatures(page: Page) -> list[Signature]:
    """Return the change of L_ST and of the gap for each arm that measured both in enough reviews."""
    return [found for arm in page.curves if (found := signature(arm.arm, arm.seeds))]
