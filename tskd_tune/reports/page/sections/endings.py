"""The runs that failed, were stopped or have no end yet."""

from __future__ import annotations

from tskd_tune.reports.forms.report_lines import ending_lines
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section class="warning" aria-labelledby="ended"><h2 id="ended">Failed, stopped and unfinished</h2>{{ sentences(lines) }}</section>
"""


@SECTIONS.register("endings", source="the rows and histories")
class Endings(Section):
    """The runs that failed, were stopped or have no end yet."""

    place = 50

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        lines = ending_lines(page.found)
        return rendered(TEMPLATE, lines=lines) if lines else ""
