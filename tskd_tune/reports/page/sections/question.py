"""The question, the task, teacher, student, seeds and devices."""

from __future__ import annotations

from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-label="What was run">
{% if question %}
<p><strong>{{ question }}</strong></p>
{% endif %}
{{ sentences(lines) }}
</section>
"""


@SECTIONS.register("question", source="what was run")
class Question(Section):
    """The question, the task, teacher, student, seeds and devices."""

    place = 10

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        lines, question = head_lines(page.found), page.found.head.question
        if not lines:
            return ""
        return rendered(TEMPLATE, question=question, lines=[line for line in lines if line != question])
