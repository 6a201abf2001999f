"""The differences from the preset, by groups of arms."""

from __future__ import annotations

from tskd_tune.reports.forms.head_lines import setting_lines
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
<section aria-labelledby="settings">
<h2 id="settings">What differs from the preset</h2>
<dl>
{% for who, what in settings %}
<dt>{{ who }}</dt>
<dd>{{ what }}</dd>
{% endfor %}
</dl>
</section>
"""


@SECTIONS.register("settings", source="the rows")
class Settings(Section):
    """The differences from the preset, by groups of arms."""

    place = 200

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        parts = [line.partition(": ") for line in setting_lines(page.found.settings)]
        return rendered(TEMPLATE, settings=[(who, what) for who, _, what in parts]) if parts else ""
