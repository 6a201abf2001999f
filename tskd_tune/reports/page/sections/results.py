"""The table of arms, or of the points of a search."""

from __future__ import annotations

from tskd_tune.reports.forms.report_lines import notes
from tskd_tune.reports.forms.tables import cells
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, table %}
<section aria-labelledby="results">
<h2 id="results">{{ "Points" if searched else "Arms" }}</h2>
{% if rows %}
{{ table("results", caption, titles, rows, classes) }}<div class="notes">{{ sentences(notes) }}</div>
{% else %}
<p>No run has finished yet; write this page again with <code>tskd-tune report</code>.</p>
{% endif %}
</section>
"""


@SECTIONS.register("results", source="the arms")
class Results(Section):
    """The table of arms, or of the points of a search."""

    place = 40

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        columns, rows = cells(page.found)
        searched = page.found.search is not None
        return rendered(
            TEMPLATE,
            searched=searched,
            caption=f"One row per {'point of the search' if searched else 'arm'}.",
            titles=[column.title for column in columns],
            classes=["right" if column.align == "right" else "free" for column in columns],
            rows=rows,
            notes=notes(page.found),
        )
