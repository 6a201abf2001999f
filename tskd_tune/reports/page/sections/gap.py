"""The gap to the teacher and L_ST over the reviews, and the arms in which only L_ST falls."""

from __future__ import annotations

from tskd_tune.reports.page import charts
from tskd_tune.reports.page.gap_changes import gap_changes
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="gap">
<h2 id="gap">Does the student close the gap?</h2>
{{ arms_legend(legend) }}
<figure>
{{ figure }}
<figcaption>L_ST (solid) and the mean gap to the teacher's maps (dotted) at each review, both relative to the first review; logarithmic, mean over seeds. Where the solid line falls and the dotted line stays, the method fails: from the first to the last third of the reviews, L_ST falls to half or less, and the gap keeps nine tenths or more.</figcaption>
</figure>
{% if others %}
{{ sentences(others) }}
{% elif failed %}
<p class="notes">The method fails in every arm that reviews; see the top of this page.</p>
{% else %}
<p class="notes">With fewer than three reviews, this page cannot tell whether L_ST falls while the gap stays.</p>
{% endif %}
</section>
"""


@SECTIONS.register("gap", source="the histories")
class Gap(Section):
    """The gap to the teacher and L_ST over the reviews, and the arms in which only L_ST falls."""

    place = 160

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        figure = charts.gaps(page.reviewing)
        if figure is None:
            return ""
        found = gap_changes(page)
        return rendered(
            TEMPLATE,
            legend=page.legend,
            figure=drawn(figure, "gap"),
            others=[one.sentence for one in found if not one.failed],
            failed=any(one.failed for one in found),
        )
