"""A table of the paper with a run's arms beside its cells, for a terminal and as Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

from rich.table import Table

from tskd_tune.plain import Json
from tskd_tune.records.entries.row import BEST_TEST_MARK
from tskd_tune.reports.findings.records import NOTHING, Statistic
from tskd_tune.reports.forms.exports import csv_text
from tskd_tune.reports.forms.grids import Align, drawn
from tskd_tune.reports.forms.latex import NEEDS, latex_table
from tskd_tune.reports.forms.markdown import markdown_table
from tskd_tune.reports.forms.paper import Beside, Cell, Ours
from tskd_tune.reports.forms.plain import plain
from tskd_tune.reports.forms.short import MISSING
from tskd_tune.reports.forms.words import interval_text, spread

TITLES: list[tuple[str, Align]] = [
    ("networks", "left"),
    ("cell", "left"),
    ("paper ‡", "right"),
    ("ours, last epoch", "right"),
    ("95 % interval", "right"),
    ("ours, best test epoch †", "right"),
    ("arm", "left"),
    ("differences", "left"),
]


def notes(table: Beside) -> list[str]:
    """Return the lines under the table: the meaning of the marks, then the contradictions within the paper."""
    return [
        f"‡ {table.mark}; {table.metric}. The authors' code reports the best test epoch.",
        f"† {BEST_TEST_MARK}.",
        *filter(None, [table.alone]),
        *(f"Paper: {note}" for note in table.footnotes),
    ]


def lines(table: Beside) -> list[list[str]]:
    """Return the table's lines with the columns `TITLES`: a line per arm beside a cell, one for a cell without arms."""
    return [_line(cell, ours) for cell in table.cells for ours in cell.ours or [None]]


def _line(cell: Cell, ours: Ours | None) -> list[str]:
    printed = [cell.column, cell.row, f"{cell.paper:.2f}"]
    if ours is None:
        return [*printed, MISSING, MISSING, MISSING, MISSING, ""]
    between = interval_text(ours.interval, beyond=ours.beyond)
    return [*printed, spread(ours.last), between, spread(ours.best_test), ours.arm, "; ".join(ours.mind)]


def markdown(table: Beside) -> str:
    """Return the table as Markdown."""
    listed = "\n".join(f"- {note}" for note in notes(table))
    return f"# {table.title}\n\n" + "\n".join(markdown_table(TITLES, lines(table))) + f"\n\n{listed}\n"


def rich_table(table: Beside) -> Table:
    """Return the table for a terminal."""
    return drawn(f"{table.title}: {table.metric}", TITLES, lines(table))


def latex(table: Beside) -> str:
    """Return the table as LaTeX."""
    return f"{NEEDS}\n\n{latex_table(TITLES, lines(table), notes(table))}\n"


def as_csv(table: Beside) -> str:
    """Return the table as CSV with the lines of `lines`. Numbers are not rounded."""
    return csv_text([_cells(table, cell, ours) for cell in table.cells for ours in cell.ours or [None]])


def _cells(table: Beside, cell: Cell, ours: Ours | None) -> dict[str, Json]:
    last, best = (ours.last, ours.best_test) if ours else (None, None)
    interval = ours.interval if ours else None
    return {
        "table": table.table,
        "networks": cell.column,
        "cell": cell.row,
        "paper": cell.paper,
        "paper_mark": table.mark,
        "arm": ours.arm if ours else None,
        **_numbers("", last),
        "comparable": ours.comparable if ours else None,
        "interval_low": interval.low if interval else None,
        "interval_high": interval.high if interval else None,
        **_numbers("best_test_", best),
        "mind": "; ".join(ours.mind) if ours else "",
    }


def _numbers(prefix: str, found: Statistic | None) -> dict[str, Json]:
    known = found or NOTHING
    return {f"{prefix}n": known.n if found else None, f"{prefix}mean": known.mean, f"{prefix}sd": known.sd}


def as_json(table: Beside) -> Json:
    """Return the table as plain data."""
    return plain(table)


@plain.register
def _beside(value: Ours) -> Json:
    """Merge the numbers of the last epoch into the facts of the arm."""
    return {
        "arm": value.arm,
        "n": value.last.n,
        "of": value.last.of,
        "mean": value.last.mean,
        "sd": value.last.sd,
        "interval": plain(value.interval),
        "beyond": value.beyond,
        "best_test": plain(value.best_test),
        "comparable": value.comparable,
        "mind": list(value.mind),
    }
