"""The report of a run: one HTML page that needs no network, verdicts first, and the same in Markdown."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tskd_tune.files import write_whole
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.report_lines import purpose
from tskd_tune.reports.page import figures
from tskd_tune.reports.page.section import Page, Section, rendered
from tskd_tune.reports.page.sections import SECTIONS
from tskd_tune.reports.page.words import minute


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` and ``report.md`` into the run's folder; return the path of the page.

    The same rows and histories give the same bytes.

    Raises:
        RunError: the records cannot be read, or the folder cannot be written.
    """
    found = summary(run)
    write_whole(run.path / "report.md", markdown(found))
    path = run.path / "report.html"
    write_whole(path, html(run, found))
    return path


def html(run: RunFolder, found: Findings, *more: str) -> str:
    """Return the page of a run whose findings are at hand; a section stands where there is something to show in it.

    Args:
        run: the run's folder.
        found: what the run found.
        more: sections beside those of the package and of installed packages, each as ``module:Class``.
    """
    page = Page(run, found)
    body = Markup("").join(Markup(section.html(page)) for section in _sections(more))
    filled = rendered(
        files(__package__ or "").joinpath("page.html.j2").read_text("utf-8"),
        found=found,
        purpose=purpose(found),
        sections=body,
        plotly=Markup(get_plotlyjs()) if figures.CLASS in body else "",
        minute=minute,
    )
    return str(filled)


def _sections(more: tuple[str, ...]) -> list[Section]:
    names = [*(entry.name for entry in SECTIONS), *more]
    return sorted(map(SECTIONS.build, names), key=lambda section: section.place)
