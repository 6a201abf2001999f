"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.reports.findings import importance, pareto, search_curve
from tskd_tune.reports.findings.cost_table import ArmCost
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms import report_lines
from tskd_tune.reports.forms.cost_forms import TITLE, compares, cost_cells, cost_notes
from tskd_tune.reports.forms.crossed_lines import crossed_lines
from tskd_tune.reports.forms.grids import Align
from tskd_tune.reports.forms.head_lines import head_lines, setting_lines
from tskd_tune.reports.forms.tables import cells


def markdown(found: Findings) -> str:
    """Return the report as Markdown. The same findings give the same bytes."""
    shown, rows = cells(found)
    parts = [
        f"# {_plain(found.run)}",
        " ".join([f"{found.runs.sentence}.", *map(_plain, report_lines.purpose(found))]),
    ]
    if head_lines(found):
        parts.append(bullets(head_lines(found)))
    if rows:
        parts.append("## Verdicts\n\n" + bullets(report_lines.verdict_lines(found)))
        parts.append("## Arms\n\n" + "\n".join(markdown_table([(c.title, c.align) for c in shown], rows)))
    parts.append(bullets(report_lines.under_table(found)) if rows else "No run has finished yet.")
    if compares(found.costs) and found.search is None:
        parts.append(f"## {TITLE}\n\n{markdown_costs(found.costs)}")
    parts += [f"## {title}\n\n{bullets(lines)}" for title, lines in _sections(found) if lines]
    return "\n\n".join(parts) + "\n"


def markdown_costs(costs: Sequence[ArmCost]) -> str:
    """Return the table of costs and its notes."""
    table = "\n".join(markdown_table(*cost_cells(costs))) + "\n\n" if costs else ""
    return table + bullets(cost_notes(costs))


def _sections(found: Findings) -> list[tuple[str, list[str]]]:
    return [
        ("Over seeds and images", crossed_lines(found)),
        ("Over the pairs of teacher and student", report_lines.pooled_lines(found)),
        ("Pareto front", pareto.lines(found.pareto, found.measures)),
        ("Search curve", search_curve.lines(found.curve, found.measures)),
        ("Parameter importance", importance.lines(found.importance)),
        ("Failed, stopped and unfinished", report_lines.ending_lines(found)),
        ("Warnings", report_lines.warning_lines(found)),
        ("Methods", report_lines.method_lines(found)),
        ("Presets and deviations", setting_lines(found.settings)),
        ("Versions", report_lines.version_lines(found)),
    ]


def bullets(lines: Sequence[str]) -> str:
    """Return lines as a list, as text and not as Markdown."""
    return "\n".join(f"- {_plain(line)}" for line in lines)


def markdown_table(titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; ``titles`` gives the title and the alignment of each column."""
    rule = ["---:" if align == "right" else "---" for _, align in titles]
    lines = [[_plain(title) for title, _ in titles], rule, *([_plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Escape text of users and packages so that it is shown as text and not as Markdown or HTML."""
    one_line = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        one_line = one_line.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return one_line
