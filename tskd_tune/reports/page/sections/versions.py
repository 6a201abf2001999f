"""The versions and commits of the rows."""

from __future__ import annotations

from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.report_lines import version_lines
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
{% from "macros" import sentences, arms_legend %}
<section aria-labelledby="versions">
<h2 id="versions">Versions</h2>
<div class="notes">{{ sentences(versions) }}</div>
</section>
"""


@SECTIONS.register("versions", source="the rows")
class Versions(Section):
    """The versions and commits of the rows."""

    place = 220

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        return rendered(TEMPLATE, versions=_numbered(page.found)) if page.found.versions else ""


def _numbered(found: Findings) -> list[str]:
    """Return the versions and commits; sets of versions have the same numbers as in the table of runs."""
    lines, sets = version_lines(found), len(found.versions)
    return [f"{number}: {line}" if number <= sets > 1 else line for number, line in enumerate(lines, start=1)]
