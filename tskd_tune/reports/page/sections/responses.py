"""The headline over k and delta."""

from __future__ import annotations

from dataclasses import dataclass

from tskd_tune.reports.findings import effects
from tskd_tune.reports.findings.effects import Along, Response
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.page import effect_charts, figures
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="responses">
<h2 id="responses">Response to k and δ</h2>
<p class="notes">Arms that differ only in k and δ. A larger k or δ also means fewer reviews. The number at each point is the number of its reviews; a dotted line joins arms with the same number of reviews.</p>
<div class="grid wide">
{% for item in responses %}
<figure>
{{ item.html }}
<figcaption><b>Along {{ item.along }}.</b> Mean over seeds at the last epoch, 95 % intervals from three seeds on.{% for reviews, points in item.matched %} {{ reviews }} review{{ "" if reviews == 1 else "s" }}: {{ points | join("; ") }}.{% else %} No two of these arms have the same number of reviews with different k and δ.{% endfor %}</figcaption>
</figure>
{% endfor %}
</div>
</section>
"""


@SECTIONS.register("responses", source="the arms that differ in nothing else")
class Responses(Section):
    """The headline over k and delta."""

    place = 110

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        if page.found.search is not None:
            return ""
        groups = effects.responses(page.found.arms)[: figures.MOST_FIGURES]
        shown = [
            _shown(page.found, group, along, f"response-{index}-{along}")
            for index, group in enumerate(groups)
            for along in group.varied
        ]
        return rendered(TEMPLATE, responses=shown) if shown else ""


@dataclass(frozen=True)
class _Shown:
    """A figure along k or delta; ``matched`` is number of reviews -> the points with this number of reviews."""

    along: str
    matched: list[tuple[int, list[str]]]
    html: str


def _shown(found: Findings, group: Response, along: Along, name: str) -> _Shown:
    matched = [
        (reviews, [f"k {point.k}, δ {point.delta}" for point in points]) for reviews, points in group.matched().items()
    ]
    figure = effect_charts.response(group, along, found.heading(found.headline), found.metric.digits)
    return _Shown(effect_charts.BY_K_OR_DELTA[along], matched, drawn(figure, name))
