"""The table of arms, or of the points of a search."""

from __future__ import annotations

from tskd_tune.reports.forms.report_lines import notes
from tskd_tune.reports.forms.tables import cells
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="results">
<h2 id="results">{{ "Points" if searched else "Arms" }}</h2>
{% if rows %}
<div class="scroll" tabindex="0" role="region" aria-labelledby="results">
<table>
<caption>One row per {{ "point of the search" if searched else "arm" }}.</caption>
<thead><tr>
{% for column in columns %}
<th scope="col"{% if column.align == "right" %} class="right"{% endif %}>{{ column.title }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
{% for cell in row %}
{% if loop.first %}
<th scope="row">{{ cell }}</th>
{% else %}
<td class="{{ "right" if columns[loop.index0].align == "right" else "free" }}">{{ cell }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<div class="notes">{{ sentences(notes) }}</div>
{% else %}
<p>No run has finished yet; make this page again with <code>tskd-tune report</code>.</p>
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
        return rendered(TEMPLATE, columns=columns, rows=rows, searched=searched, notes=notes(page.found))
