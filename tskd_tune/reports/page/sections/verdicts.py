"""The verdicts, with the undecided comparisons first, and the notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.metrics import Metric
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.forms.crossed_lines import SINGLE, crossed_text
from tskd_tune.reports.forms.report_lines import pooled_lines
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.sentences import margin_text, title_of
from tskd_tune.reports.judge.words import unit_of_differences
from tskd_tune.reports.page.forest import Forest, Strip, forest
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

MOST_OPEN = 12
BADGES = (
    "resolved",
    "relevantly better",
    "relevantly worse",
    "equivalent",
    "undecided",
    "continue",
    "no verdict yet",
    "smoke",
)

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
{% macro verdict(item) %}
<li>
<div>
<p class="title"><span class="badge {{ item.badge }}">{{ item.badge }}{{ item.mark }}</span>{{ item.title }}</p>
<p>{{ item.sentence }}</p>
{% if item.crossed %}
<details><summary>Over seeds and images</summary>
<p>{{ item.crossed }}</p>
<p>{{ single }}</p>
</details>
{% endif %}
</div>
<div class="forest {{ item.badge }}">
<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{{ item.title }}: the difference and its interval, as the sentence has them">
<rect class="band" x="{{ verdicts.layout.band_low }}" y="0" width="{{ (verdicts.layout.band_high - verdicts.layout.band_low) | round(3) }}" height="10"/>
<line class="zero" x1="{{ verdicts.layout.zero }}" x2="{{ verdicts.layout.zero }}" y1="0" y2="10"/>
{% if item.strip.low is not none %}
<line class="{{ "cut" if item.strip.cut_low or item.strip.cut_high else "interval" }}" x1="{{ item.strip.low }}" x2="{{ item.strip.high }}" y1="5" y2="5"/>
{% endif %}
{% if item.strip.dot is not none %}
<line class="dot" x1="{{ item.strip.dot }}" x2="{{ item.strip.dot }}" y1="5" y2="5"/>
{% endif %}
</svg>
<div class="axis" aria-hidden="true">{% for tick in verdicts.layout.ticks %}<span style="left: {{ tick.at }}%">{{ tick.text }}</span>{% endfor %}</div>
</div>
</li>
{% endmacro %}
<section aria-labelledby="verdicts">
<h2 id="verdicts">Verdicts</h2>
<p>{% for badge, count in verdicts.counts %}<span class="badge {{ badge }}">{{ count }} {{ badge }}</span>{% endfor %}</p>
<p class="notes">Each line: the difference{{ unit }} with its interval{{ band }}. A dashed interval goes on beyond the scale.</p>
<ul class="verdicts">
{% for item in verdicts.open %}
{{ verdict(item) }}
{% endfor %}
</ul>
{% if verdicts.folded %}
<details><summary>{{ verdicts.folded | length }} more comparisons of the same table</summary>
<ul class="verdicts">
{% for item in verdicts.folded %}
{{ verdict(item) }}
{% endfor %}
</ul>
</details>
{% endif %}
<div class="notes">{{ sentences(verdicts.notes) }}</div>
{% if pooled %}
<h3>Over the pairs of teacher and student</h3>
{{ sentences(pooled) }}
{% endif %}
</section>
"""

REASON = """\
<section aria-labelledby="verdicts">
<h2 id="verdicts">Verdicts</h2>
<p>{{ reason }}</p>
</section>
"""


@SECTIONS.register("verdicts", source="the judged family")
class VerdictsSection(Section):
    """The verdicts, with the undecided comparisons first, and the notes."""

    place = 20

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        family = page.found.family
        if family is None:
            return rendered(REASON, reason=page.found.family_reason) if page.found.arms else ""
        findings, metric = family.family.findings, page.found.metric
        layout = forest(findings, family.family.margin)
        items = [
            _item(finding, strip, crossed_text(finding, page.found))
            for finding, strip in zip(findings, layout.strips, strict=True)
        ]
        return rendered(
            TEMPLATE,
            verdicts=_Shown(items[:MOST_OPEN], items[MOST_OPEN:], _counts(items), layout, _notes(family)),
            unit=_unit(metric),
            band=_band(family.family.margin, metric),
            pooled=pooled_lines(page.found),
            single=SINGLE,
        )


@dataclass(frozen=True)
class _Item:
    """A comparison on the page.

    ``badge`` is its verdict, ``mark`` tells that the verdict is exploratory, and ``crossed`` says how sure the
    difference is over seeds and images; empty where it is not known.
    """

    badge: str
    mark: str
    title: str
    sentence: str
    strip: Strip
    crossed: str


@dataclass(frozen=True)
class _Shown:
    """The visible and the folded comparisons, the number of each badge, and the common layout and notes."""

    open: Sequence[_Item]
    folded: Sequence[_Item]
    counts: Sequence[tuple[str, int]]
    layout: Forest
    notes: Sequence[str]


def _item(finding: Finding, strip: Strip, crossed: str) -> _Item:
    """Return a comparison. The title names the two arms, so the sentence does not name them again."""
    item = finding.contrast
    sentence = finding.sentence.removeprefix(f"{title_of(item)}: ")
    title = f"{item.arm} against {item.baseline}"
    badge = finding.verdict or ("no verdict yet" if finding.evidence.pending else "smoke")
    mark = finding.word.removeprefix(finding.verdict or "")
    return _Item(badge, mark, title, sentence[:1].upper() + sentence[1:], strip, crossed)


def _counts(items: Sequence[_Item]) -> list[tuple[str, int]]:
    counts = [(badge, sum(item.badge == badge for item in items)) for badge in BADGES]
    return [(badge, count) for badge, count in counts if count]


def _notes(family: Verdicts) -> list[str]:
    """Return the smallest difference that the design detects, then the notes on the family."""
    return [family.family.sentence, *family.notes]


def _unit(metric: Metric) -> str:
    unit = unit_of_differences(metric)
    return f" in {unit}" if unit else ""


def _band(margin: float | None, metric: Metric) -> str:
    return "" if margin is None else f", over the band of {margin_text(margin, metric)} that counts as equivalent"
