"""The headline of every trial of a search against each parameter."""

from __future__ import annotations

from tskd_tune.reports.findings import effects
from tskd_tune.reports.page import effect_charts
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="slices">
<h2 id="slices">What was tried</h2>
<p class="notes">A point per trial: the mean over its seeds. The searcher chose the trials, so points are denser where values were better.</p>
<div class="grid">
{% for item in slices %}
<figure>
{{ item }}
</figure>
{% endfor %}
</div>
</section>
"""


@SECTIONS.register("slices", source="the trials of a search")
class Slices(Section):
    """The headline of every trial of a search against each parameter."""

    place = 120

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        found = page.found
        if found.search is None:
            return ""
        title, digits = found.heading(found.headline), found.metric.digits
        slices = [
            drawn(effect_charts.sliced(one, title, digits), f"slice-{index}")
            for index, one in enumerate(effects.slices(found.arms))
        ]
        return rendered(TEMPLATE, slices=slices) if slices else ""
