"""Which epochs memorize and which review."""

from __future__ import annotations

from tskd_tune.reports.page.plan_strip import strips
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
<section aria-labelledby="plan">
<h2 id="plan">The plan</h2>
<ul class="legend"><li><i class="memorize"></i>memorizes</li><li><i class="review"></i>reviews</li></ul>
{% for plan in plans %}
<div class="plan">
<p>{{ plan.arms | join("; ") }}</p>
<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{{ plan.memorize | length }} epochs memorize and {{ plan.review | length }} review, of {{ plan.epochs }}">
{% for mark in plan.marks %}
<rect class="{{ mark.kind }}" x="{{ mark.left }}" y="{{ 0 if mark.kind == "review" else 5 }}" width="{{ mark.width }}" height="{{ 10 if mark.kind == "review" else 5 }}"/>
{% endfor %}
</svg>
<div class="ends"><span>0</span><span>epoch {{ plan.epochs - 1 }}</span></div>
<details><summary>{{ plan.memorize | length }} epoch{{ "s memorize" if plan.memorize | length != 1 else " memorizes" }}, {{ plan.review | length }} review{{ "" if plan.review | length != 1 else "s" }}</summary>
memorize: {{ plan.memorize | join(", ") or "none" }}<br>review: {{ plan.review | join(", ") or "none" }}</details>
</div>
{% endfor %}
</section>
"""


@SECTIONS.register("plan", source="the plans of the arms")
class Plan(Section):
    """Which epochs memorize and which review."""

    place = 180

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        plans = strips(page.found.arms)
        return rendered(TEMPLATE, plans=plans) if plans else ""
