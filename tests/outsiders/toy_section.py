"""A section of one's own."""

from __future__ import annotations

from tskd_tune.reports.page.section import Page, Section, rendered


class Seeds(Section):
    """The number of seeds of each arm."""

    place = 35

    def html(self, page: Page) -> str:
        """Return a list of the arms."""
        counts = [(arm.arm, len(arm.runs)) for arm in page.found.arms]
        lines = "{% for arm, n in counts %}<p>{{ arm }}: {{ n }}</p>{% endfor %}"
        template = f'<section><h2 id="seeds">Seeds</h2>{lines}</section>\n'
        return rendered(template, counts=counts)
