"""The importance of the parameters of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.reports.findings.importance import Group, Share, lines
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.page import effect_charts, figures
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="importance">
<h2 id="importance">Which parameters matter</h2>
{% if importances %}
<div class="grid wide">
{% for item in importances %}
<figure>
{{ item.html }}
<figcaption>{{ item.metric }}{% if item.where %} where {{ item.where }}{% endif %}, {{ item.trials }} trials.</figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
<div class="notes">{{ sentences(lines) }}</div>
</section>
"""


@SECTIONS.register("importance", source="the Optuna study")
class ImportanceSection(Section):
    """The importance of the parameters of a search."""

    place = 150

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        told = lines(page.found.importance)
        return rendered(TEMPLATE, lines=told, importances=_figures(page.found)) if told else ""


@dataclass(frozen=True)
class _Shown:
    """A figure of one objective for one group of trials."""

    metric: str
    where: str
    trials: int
    html: str


def _figures(found: Findings) -> list[_Shown]:
    """Draw the importance of each parameter for each objective, over all trials and in each branch."""
    objectives = found.importance.metrics if found.importance else ()
    groups = [(one.metric, group) for one in objectives for group in one.groups if len(group.shares) > 1]
    return [
        _shown(found.heading(metric), group, f"importance-{index}")
        for index, (metric, group) in enumerate(groups[: figures.MOST_FIGURES])
    ]


def _shown(title: str, group: Group, name: str) -> _Shown:
    where = ", ".join(f"{parameter}={value}" for parameter, value in group.where.items())
    return _Shown(title, where, group.trials, drawn(effect_charts.shares(_shares(group.shares)), name))


def _shares(found: Sequence[Share]) -> effect_charts.Shares:
    return effect_charts.Shares(
        [share.parameter for share in found],
        [share.fanova or 0.0 for share in found],
        [share.ped_anova or 0.0 for share in found],
    )
