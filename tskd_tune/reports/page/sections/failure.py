"""A warning where L_ST of an arm falls but the gap to the teacher stays: there the method fails."""

from __future__ import annotations

from tskd_tune.reports.page.gap_changes import gap_changes
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section class="warning" aria-labelledby="failure"><h2 id="failure">L_ST falls, but the gap to the teacher stays</h2>
<p>The extractors learned to predict the gap, but the student did not close it: the method fails in these arms.</p>
{{ sentences(failed) }}</section>
"""


@SECTIONS.register("failure", source="L_ST over the gap to the teacher")
class Failure(Section):
    """A warning where L_ST of an arm falls but the gap to the teacher stays: there the method fails."""

    place = 30

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        failed = [found.sentence for found in gap_changes(page) if found.failed]
        return rendered(TEMPLATE, failed=failed) if failed else ""
