"""What each arm cost, and the Pareto fronts: the headline against every other objective."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from tskd_tune.reports.findings import effects
from tskd_tune.reports.findings.costs import sharing
from tskd_tune.reports.findings.pareto import COSTS, Front, FrontPoint, values_text
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.cost_forms import TITLE, compares, cost_cells, cost_notes
from tskd_tune.reports.page import effect_charts, figures
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TABLE = """\
{% from "macros" import sentences, table %}
<section aria-labelledby="cost-table">
<h2 id="cost-table">{{ title }}</h2>
{{ table("cost-table", "One row per arm and device.", titles, rows, classes) }}<div class="notes">{{ sentences(notes) }}</div>
</section>
"""
TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="costs">
<h2 id="costs">Cost against {{ title }}</h2>
{% for item in costs %}
<figure>
{{ item.html }}
<figcaption><b>The Pareto front of the means</b> for {{ item.objectives }}: no other point is at least as good in every objective and better in one.{% if item.beaten %} Gray: {{ item.beaten }} that a point of the front beats.{% endif %}{% if not item.joined %} The front is computed from all objectives; the figure shows two of them.{% endif %} 95 % intervals from three seeds on; where intervals overlap, other seeds may change the order.</figcaption>
</figure>
{% if item.front %}
<ol class="notes">
{% for line in item.front %}
<li>{{ line }}</li>
{% endfor %}
</ol>
{% endif %}
{% if item.left_out %}
<p class="notes">Left out, because the mean over the remaining seeds would look too good: {{ item.left_out | join("; ") }}.</p>
{% endif %}
{% endfor %}
{% if sharing %}
<p class="notes">{{ sharing }}</p>
{% endif %}
</section>
"""


@SECTIONS.register("costs", source="the costs in the rows, the seconds of the epochs, and the Pareto fronts")
class Costs(Section):
    """What each arm of a grid cost, and the Pareto fronts: the headline against every other objective."""

    place = 130

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        shown = [
            _shown(page.found, front, cost, place == 0, f"costs-{index}-{cost}")
            for index, front in enumerate(page.found.pareto[: figures.MOST_FIGURES])
            for place, cost in enumerate(_costs(front))
        ]
        shared = sharing(page.found.arms)
        title = page.found.metric.title
        fronts = rendered(TEMPLATE, costs=shown, title=title, sharing=shared) if shown else ""
        return _table(page.found) + fronts


def _table(found: Findings) -> str:
    """Return what each arm cost; empty for one arm, and for a search, which has a row for each trial."""
    if not compares(found.costs) or found.search is not None:
        return ""
    columns, rows = cost_cells(found.costs)
    return rendered(
        TABLE,
        title=TITLE,
        titles=[title for title, _ in columns],
        classes=["right" if align == "right" else "free" for _, align in columns],
        rows=rows,
        notes=cost_notes(found.costs),
    )


@dataclass(frozen=True)
class _Shown:
    """A figure of a front; only the first figure of a front has the texts that belong to all its figures."""

    html: str
    objectives: str
    joined: bool
    front: list[str]
    left_out: list[str]
    beaten: int


def _costs(front: Front) -> list[str]:
    return [name for name in front.objectives if name != front.metric]


def _shown(found: Findings, front: Front, cost: str, is_first: bool, name: str) -> _Shown:
    on_front = _on_front(front)
    return _Shown(
        html=drawn(_figure(found, front, cost), name),
        objectives=", ".join(f"{objective} ({mode})" for objective, mode in front.objectives.items()),
        joined=len(front.objectives) == 2,
        front=[f"{point.arm}: {values_text(point, found.measures)}" for point in on_front] if is_first else [],
        left_out=[f"{other.arm}: {other.reason}" for other in front.left_out] if is_first else [],
        beaten=len(front.points) - len(front.front),
    )


def _figure(found: Findings, front: Front, cost: str) -> go.Figure:
    places = {point.run: number for number, point in enumerate(_on_front(front), start=1)}
    enough = [arm for arm in found.arms if arm.headline.n >= figures.LEAST_BAND]
    intervals = {arm.runs[0]: effects.interval(arm) for arm in enough}
    points = [
        effect_charts.Costed(
            arm=point.arm,
            cost=point.values[cost],
            value=point.values[front.metric],
            interval=intervals.get(point.run),
            front=places.get(point.run),
        )
        for point in front.points
    ]
    title = cost if cost in COSTS else found.heading(cost)
    joined, digits = len(front.objectives) == 2, found.metric.digits
    return effect_charts.costs(points, found.heading(front.metric), title, joined=joined, digits=digits)


def _on_front(front: Front) -> list[FrontPoint]:
    """Return the points of a front in ascending order of the first objective other than the metric."""
    cost = _costs(front)[0]
    return sorted((point for point in front.points if point.on_front), key=lambda point: point.values[cost])
