"""The distillers that were trained, and their sources."""

from __future__ import annotations

from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
<section aria-labelledby="methods">
<h2 id="methods">Methods</h2>
<dl>
{% for method in methods %}
<dt>{{ method.name }}</dt>
<dd>{{ method.source }}</dd>
{% endfor %}
</dl>
</section>
"""


@SECTIONS.register("methods", source="the rows")
class Methods(Section):
    """The distillers that were trained, and their sources."""

    place = 190

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        return rendered(TEMPLATE, methods=page.found.methods) if page.found.methods else ""
