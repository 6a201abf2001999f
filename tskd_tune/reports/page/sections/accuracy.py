"""The headline's metric by epoch."""

from __future__ import annotations

from tskd_tune.reports.forms.words import MOST_ARMS
from tskd_tune.reports.page import charts
from tskd_tune.reports.page.charts import Followed
from tskd_tune.reports.page.section import SECTIONS, Page, Section, drawn, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="accuracy">
<h2 id="accuracy">{{ title }} by epoch</h2>
<figure>
{{ figure }}
<figcaption>{{ heading }}: the mean over seeds, with its 95 % interval (shaded) from three seeds on. Diamonds are review epochs. The view first shows the last half of the training and the range of the means, so wide intervals are cut; double-click twice to see everything.{% if drawn < arms %} The first {{ drawn }} of {{ arms }} lines of the table are drawn.{% endif %}</figcaption>
</figure>
</section>
"""


@SECTIONS.register("accuracy", source="the histories")
class Accuracy(Section):
    """The headline's metric by epoch."""

    place = 70

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        found, arms = page.found, page.curves[:MOST_ARMS]
        name = charts.followed(arms, [found.on("validation"), found.on("test")])
        if name is None:
            return ""
        shown = Followed(name, found.heading(name), found.metric)
        return rendered(
            TEMPLATE,
            title=found.metric.title,
            figure=drawn(charts.accuracy(arms, shown), "accuracy"),
            heading=shown.heading,
            drawn=len(arms),
            arms=len(found.arms),
        )
