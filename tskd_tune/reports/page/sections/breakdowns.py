"""The metrics of the last epoch, all of them and by conditions: AP by IoU threshold, by size of the objects, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.metrics import heading, measured
from tskd_tune.reports.findings.examples import Conditions, Gallery, conditions
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.words import spread
from tskd_tune.reports.page.condition_charts import by_condition
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

MOST_DRAWN = 12
"""A metric by more names than this is a table without a chart, and is folded."""

TEMPLATE = """\
{% from "macros" import table %}
<section aria-labelledby="breakdowns">
<h2 id="breakdowns">{{ title }}</h2>
{% for group in groups %}
{{ table("breakdowns", group.caption, group.titles, group.rows, group.classes) }}
{% if group.figures %}
<div class="grid wide">
{% for one in group.figures %}
<figure>
{{ one.figure }}
<figcaption><b>{{ one.title }}</b>, mean over seeds{{ one.how }}.</figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
{% for one in group.tables %}
<details{% if one.open %} open{% endif %}><summary>{{ one.title }}</summary>
{{ table("breakdowns", one.caption, one.titles, one.rows, one.classes, "small") }}
</details>
{% endfor %}
{% endfor %}
</section>
"""
CAPTION = "Mean ± sample standard deviation over seeds; a dash where nothing can be measured."


@dataclass(frozen=True)
class _Table:
    title: str
    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    open: bool = True

    @property
    def classes(self) -> list[str]:
        """The class of each column."""
        return ["free", *["right"] * (len(self.titles) - 1)]


@dataclass(frozen=True)
class _Figure:
    title: str
    how: str
    figure: str


@dataclass(frozen=True)
class _Group(_Table):
    figures: Sequence[_Figure] = ()
    tables: Sequence[_Table] = ()


@SECTIONS.register("breakdowns", source="the rows, and the examples of the trainings")
class Breakdowns(Section):
    """All metrics of the last epoch, and each metric by conditions; empty for tasks without conditions."""

    place = 80

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        found = [(gallery, conditions(gallery)) for gallery in page.galleries]
        groups = [_group(page.found, number, *one) for number, one in enumerate(found) if one[1]]
        if not groups:
            return ""
        axes = list(dict.fromkeys(one.record.axis for _, some in found for one in some))
        return rendered(TEMPLATE, title=f"{page.found.metric.title} by {_listed(axes)}", groups=groups)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _group(found: Findings, number: int, gallery: Gallery, by: Sequence[Conditions]) -> _Group:
    names = [measured(gallery.part, metric) for metric in found.measures]
    shown = [name for name in names if any(name in found.arms[arm.place].metrics for arm in gallery.arms)]
    digits = {measured(gallery.part, metric): metric.digits for metric in found.measures}
    rows = [
        [arm.arm, *(spread(found.arms[arm.place].metric(name), digits[name]) for name in shown)] for arm in gallery.arms
    ]
    return _Group(
        title="",
        caption=f"Last epoch. {CAPTION}",
        titles=["arm", *(heading(name, found.measures) for name in shown)],
        rows=rows,
        figures=[
            _Figure(one.record.title, _how(one), drawn(by_condition(one), f"{one.record.name}-{number}"))
            for one in by
            if _is_drawn(one)
        ],
        tables=[_by_condition(one) for one in by],
    )


def _is_drawn(one: Conditions) -> bool:
    return one.record.ordered or len(one.record.labels) <= MOST_DRAWN


def _how(one: Conditions) -> str:
    return ", with the 95 % interval from three seeds on" if one.record.ordered else " ± standard deviation"


def _by_condition(one: Conditions) -> _Table:
    """Return arms as columns where there are many conditions, and as rows where there are few."""
    record, digits = one.record, one.metric.digits
    cells = [[spread(value, digits) for value in row.statistics()] for row in one.rows]
    if _is_drawn(one):
        rows = [[row.arm, *texts] for row, texts in zip(one.rows, cells, strict=True)]
        return _Table(record.title, CAPTION, ["arm", *record.labels], rows, open=False)
    turned = [[label, *texts] for label, texts in zip(record.labels, zip(*cells, strict=True), strict=True)]
    return _Table(record.title, CAPTION, [record.axis, *(row.arm for row in one.rows)], turned, open=False)
