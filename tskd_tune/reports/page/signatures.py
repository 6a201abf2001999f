"""Which arms show the method's failure signature, as two sections of the page say."""

from __future__ import annotations

from tskd_tune.reports.findings.effects import Signature, signature
from tskd_tune.reports.page.section import Page


def signatures(page: Page) -> list[Signature]:
    """Return what the reviews of each arm say, where they say something."""
    return [found for arm in page.curves if (found := signature(arm.arm, arm.seeds))]
