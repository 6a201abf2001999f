"""The tables of a run as LaTeX to paste into a paper. The tables need the LaTeX package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.metrics import Metric
from tskd_tune.reports.findings.cost_table import ArmCost
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms import report_lines
from tskd_tune.reports.forms.cost_forms import cost_cells, cost_notes
from tskd_tune.reports.forms.grids import Align
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.short import MISSING
from tskd_tune.reports.forms.tables import cells
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.sentences import ends_text
from tskd_tune.reports.judge.words import p_text, signed, unit_of_differences

NEEDS = r"% Needs \usepackage{booktabs}."

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    # LaTeX prints two hyphens in a row as one dash.
    "-": "-{}",
    "±": r"$\pm$",
    "\u2212": "$-$",
    "—": "---",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "λ": r"$\lambda$",
    "→": r"$\to$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def latex(found: Findings) -> str:
    """Return the table of verdicts and the table of arms, with the same lines as in the other formats."""
    columns, rows = cells(found)
    titles = [(column.title, column.align) for column in columns]
    parts = [NEEDS]
    if found.family:
        notes = [*report_lines.verdict_lines(found), *report_lines.pooled_lines(found)]
        verdicts = [_verdict_row(finding, found.metric) for finding in found.family.family.findings]
        parts.append(latex_table(_verdict_titles(found.metric), verdicts, notes))
    notes = [*head_lines(found), *report_lines.under_table(found), *report_lines.warning_lines(found)]
    parts.append(latex_table(titles, rows, notes))
    return "\n\n".join(parts) + "\n"


def latex_costs(costs: Sequence[ArmCost]) -> str:
    """Return the table of costs, with its notes."""
    return f"{NEEDS}\n\n{latex_table(*cost_cells(costs), cost_notes(costs))}\n"


def latex_table(titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table with the notes under the table, one note per line."""
    spec = "".join(align[0] for _, align in titles)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        _line([title for title, _ in titles]),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *[rf"\par\smallskip\raggedright\footnotesize {escaped(note)}" for note in notes],
        r"\end{table}",
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Escape text so that LaTeX prints the text unchanged, on one line."""
    return "".join(_LATEX.get(mark, mark) for mark in " ".join(text.split()))


def _line(row: Sequence[str]) -> str:
    return " & ".join(map(escaped, row)) + r" \\"


def _verdict_titles(metric: Metric) -> list[tuple[str, Align]]:
    unit = unit_of_differences(metric)
    return [
        ("arm", "left"),
        ("against", "left"),
        (f"difference ({unit})" if unit else "difference", "right"),
        ("interval", "right"),
        ("seeds", "right"),
        ("p (Holm)", "right"),
        ("verdict", "left"),
    ]


def _verdict_row(finding: Finding, metric: Metric) -> list[str]:
    item, interval, p = finding.contrast, finding.evidence.interval, finding.holm_p
    return [
        item.arm,
        item.baseline,
        MISSING if item.difference is None else signed(item.difference, metric),
        MISSING if interval is None else f"{ends_text(interval, metric)} ({100 * interval.level:.4g} %)",
        str(item.n),
        MISSING if p is None else p_text(p).removeprefix("p ").removeprefix("= "),
        finding.word or ("none yet" if finding.evidence.pending else "none (smoke)"),
    ]
