"""Each arm that reviews increments beside the arm that reviews feature maps and is otherwise the same."""

from __future__ import annotations

from tskd_tune.metrics import Metric
from tskd_tune.reports.findings import effects
from tskd_tune.reports.findings.records import ArmFindings, values_by_seed
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.words import MOST_ARMS
from tskd_tune.reports.judge.contrasts import Contrast, contrast
from tskd_tune.reports.judge.sentences import margin_text, title_of
from tskd_tune.reports.judge.words import difference_text, seeds_text, signed
from tskd_tune.reports.page import charts
from tskd_tune.reports.page.charts import Followed, Pair
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="sequences">
<h2 id="sequences">Increments against feature maps</h2>
{{ sentences(lines) }}
{% if curves %}
<div class="grid wide">
<figure>
{{ curves }}
<figcaption>{{ heading }} of arms that differ only in the sequence: increments (solid), feature maps (dashed), 95 % intervals (shaded).</figcaption>
</figure>
{% if differences %}
<figure>
{{ differences }}
<figcaption>Each arm with increments minus the same arm with feature maps, by epoch, paired by seed, with the 95 % interval of the difference{% if margin %}; the gray band is {{ margin }}{% endif %}.</figcaption>
</figure>
{% endif %}
</div>
{% endif %}
</section>
"""


@SECTIONS.register("sequences", source="the histories")
class Sequences(Section):
    """Each arm that reviews increments beside the arm that reviews feature maps and is otherwise the same."""

    place = 90

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        found = page.found
        pairs = effects.sequence_pairs(found.arms)
        # In a search, two trials that differ in only one option are a coincidence and no planned comparison.
        if found.search is not None or not pairs:
            return ""
        lines = [_sentence(found, found.arms[pair.increment], found.arms[pair.feature_map]) for pair in pairs]
        shown = [Pair(page.curves[pair.increment], page.curves[pair.feature_map]) for pair in pairs[:MOST_ARMS]]
        margin = found.family.family.margin if found.family else None
        curves, differences, heading = _figures(found, shown, margin)
        return rendered(
            TEMPLATE,
            lines=lines,
            curves=curves,
            differences=differences,
            heading=heading,
            margin=margin_text(margin, found.metric) if margin else "",
        )


def _figures(found: Findings, pairs: list[Pair], margin: float | None) -> tuple[str, str, str]:
    """Return the curves, the differences and the heading of the metric; empty where no metric was measured by epoch."""
    arms = [arm for pair in pairs for arm in (pair.increment, pair.feature_map)]
    name = charts.followed(arms, [found.on("validation"), found.on("test")])
    if name is None:
        return "", "", ""
    shown = Followed(name, found.heading(name), found.metric)
    differences = ""
    if any(pair.differences(name) for pair in pairs):
        differences = drawn(charts.sequence_differences(pairs, shown, margin), "sequence-differences")
    return drawn(charts.sequences(pairs, shown), "sequences"), differences, shown.heading


def _sentence(found: Findings, increment: ArmFindings, feature_map: ArmFindings) -> str:
    """Return the family's verdict on two arms in words; without one, their paired difference without a verdict."""
    names = {increment.arm, feature_map.arm}
    for finding in found.family.family.findings if found.family else ():
        item = finding.contrast
        if {item.arm, item.baseline} == names:
            return f"{title_of(item)}: {finding.word or 'no verdict'}, see the verdicts."
    values = [values_by_seed(arm.rows, found.headline) for arm in (increment, feature_map)]
    return _difference(contrast(values[0], values[1], arm=increment.arm, baseline=feature_map.arm), found.metric)


def _difference(between: Contrast, metric: Metric) -> str:
    head = title_of(between)
    if between.difference is None:
        return f"{head}: no seed has finished in both arms."
    interval = between.interval
    spread = f"95 % interval {signed(interval.low, metric)} to {signed(interval.high, metric)}, " if interval else ""
    how = f"{seeds_text(between.n)}, {'paired' if between.paired else 'unpaired'}"
    return f"{head}: {difference_text(between.difference, metric)} ({spread}{how}). Not one of the comparisons that have a verdict."
