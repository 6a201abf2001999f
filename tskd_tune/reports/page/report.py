"""The report of a run as one HTML page that needs no network, verdicts first; and the same report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.review_shares import with_review_shares
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.report_lines import purpose
from tskd_tune.reports.page import figures
from tskd_tune.reports.page.section import Page, rendered, style
from tskd_tune.reports.page.sections import OWN, SECTIONS
from tskd_tune.reports.page.words import minute

# The place of the message on a section that failed: after all sections.
LAST = 10_000
FAILED = """\
<section class="warning"><h2>The section {{ name }} of an installed package failed</h2>
<p>{{ reason }}</p></section>
"""


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` and ``report.md`` into the run's folder; return the path of the page.

    The same rows and histories give the same bytes.

    Raises:
        RunError: the records cannot be read, or the folder cannot be written.
    """
    found = with_review_shares(run, summary(run))
    run.store.write("report.md", markdown(found).encode())
    run.store.write("report.html", html(run, found).encode())
    return run.path / "report.html"


def html(run: RunFolder, found: Findings, *more: str) -> str:
    """Return the page of a run from the run's findings; empty sections are left out.

    Args:
        run: the run's folder.
        found: the findings of the run.
        more: further sections besides those of this package and of installed packages, each as ``module:Class``.
    """
    page = Page(run, found)
    body = Markup("").join(text for _, text in sorted(_written(page, more), key=lambda placed: placed[0]))
    filled = rendered(
        files(__package__ or "").joinpath("page.html.j2").read_text("utf-8"),
        style=style(),
        found=found,
        purpose=purpose(found),
        sections=body,
        plotly=Markup(get_plotlyjs()) if figures.CLASS in body else "",
        minute=minute,
    )
    return str(filled)


def _written(page: Page, more: tuple[str, ...]) -> Iterator[tuple[int, Markup]]:
    """Yield the place and the HTML of every section.

    If the section of an installed package fails, the page has a message instead, so the report is still written.
    """
    for name in more:
        section = SECTIONS.build(name)
        yield section.place, Markup(section.html(page))
    for name in SECTIONS.names():
        try:
            section = SECTIONS.build(name)
            yield section.place, Markup(section.html(page))
        except Exception as error:
            if name in OWN:
                raise
            yield LAST, rendered(FAILED, name=name, reason=" ".join(f"{type(error).__name__}: {error}".split()))
