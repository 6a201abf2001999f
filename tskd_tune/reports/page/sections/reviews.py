"""The measures of the reviews by review epoch."""

from __future__ import annotations

from tskd_tune.reports.page import charts
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="reviews">
<h2 id="reviews">What the reviews showed</h2>
{{ arms_legend(legend) }}
<div class="grid">
{% for item, figure in telemetry %}
<figure>
<figcaption><b>{{ item.title }}.</b> {{ item.caption }}</figcaption>
{{ figure }}
</figure>
{% endfor %}
</div>
</section>
"""


@SECTIONS.register("reviews", source="the histories")
class Reviews(Section):
    """The measures of the reviews by review epoch."""

    place = 170

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        telemetry = [(item, drawn(item.figure, item.name)) for item in charts.telemetry(page.reviewing)]
        return rendered(TEMPLATE, telemetry=telemetry, legend=page.legend) if telemetry else ""
