"""The warnings of the runs."""

from __future__ import annotations

from tskd_tune.reports.forms.report_lines import warning_lines
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section class="warning" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>{{ sentences(lines) }}</section>
"""


@SECTIONS.register("warned", source="the rows")
class Warnings(Section):
    """The warnings of the runs."""

    place = 60

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        lines = warning_lines(page.found)
        return rendered(TEMPLATE, lines=lines) if lines else ""
