"""The curve of a search: the best validation value of n trials."""

from __future__ import annotations

import plotly.graph_objects as go

from tskd_tune.reports.findings.search_curve import SearchCurve, ends_of, lines, title
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.page import figures
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences %}
<section aria-labelledby="curve">
<h2 id="curve">What more trials bring</h2>
<figure>
{{ html }}
<figcaption>{{ title }}, by the number of trials.</figcaption>
</figure>
<div class="notes">{{ sentences(lines) }}</div>
</section>
"""


@SECTIONS.register("curve", source="Dodge et al. 2019, Show Your Work; Tang et al. 2020")
class Curve(Section):
    """The curve of a search: the best validation value of n trials."""

    place = 140

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        curve = page.found.curve
        if curve is None:
            return ""
        shown = drawn(_figure(curve, page.found), "curve")
        return rendered(TEMPLATE, html=shown, title=title(curve), lines=lines(curve, page.found.measures))


def _figure(curve: SearchCurve, found: Findings) -> go.Figure:
    """Draw the best of n trials, with its intervals as a band."""
    digits, points = found.metric.digits, curve.points
    figure = figures.blank(found.heading(curve.metric), 300)
    figure.update_xaxes(title={"text": "trials"})
    band = [(point.n, *ends) for point in points if (ends := ends_of(point, found.metric)) is not None]
    figure.add_scatter(
        x=[n for n, _, _ in band] + [n for n, _, _ in band][::-1],
        y=[high for _, _, high in band] + [low for _, low, _ in band][::-1],
        fill="toself",
        fillcolor=figures.color(0),
        opacity=0.12,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=[point.n for point in points],
        y=[point.value for point in points],
        mode="lines+markers",
        line={"color": figures.color(0), "width": 2, "shape": "hv" if curve.kind == "running" else "linear"},
        marker={"color": figures.color(0), "size": 5},
        hovertemplate=f"%{{y:.{digits}f}}",
        showlegend=False,
    )
    return figure
