"""The curves of searches, and the comparison of two, as tables, Markdown, CSV and plain data."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.metrics import Metric
from tskd_tune.plain import Json
from tskd_tune.reports.findings.search_comparison import SearchComparison
from tskd_tune.reports.findings.search_curve import SearchCurve, lines, milestones
from tskd_tune.reports.findings.searches import Method, nothing_found
from tskd_tune.reports.forms.exports import csv_text, curve_cells
from tskd_tune.reports.forms.grids import Align
from tskd_tune.reports.forms.markdown import bullets, markdown_table
from tskd_tune.reports.forms.plain import plain
from tskd_tune.reports.forms.short import MISSING
from tskd_tune.reports.judge.best_of import BestOf, Difference
from tskd_tune.reports.judge.words import signed


def method_lines(found: Method) -> list[str]:
    """Return a method in sentences: its runs, its curve, and how the curve is to be read."""
    runs = ", ".join(search.run for search in found.searches)
    head = [f"Replicates: {runs}."] if len(found.searches) > 1 or runs != found.name else []
    return [*head, *lines(found.curve, [found.metric]), *_notes(found)]


def method_markdown(found: Method) -> str:
    """Return the curve of a method as Markdown."""
    return f"{_title(found.name)}\n\n{bullets(method_lines(found))}\n"


def method_json(found: Method) -> dict[str, Json]:
    """Return the curve of a method as plain data."""
    runs: Json = [search.run for search in found.searches]
    return {"group": found.name, "runs": runs, "curve": plain(found.curve), "notes": plain(_notes(found))}


def method_csv(found: Method) -> str:
    """Return the curve of a method as CSV, one line per number of trials."""
    return csv_text(curve_cells(found.curve))


def comparison_lines(found: SearchComparison) -> list[str]:
    """Return the sentences under a comparison's table: why its verdict is exploratory, the difference, the notes."""
    return [*filter(None, [found.exploratory]), found.sentence, *found.notes]


def comparison_table(found: SearchComparison, metric: Metric) -> tuple[list[tuple[str, Align]], list[list[str]]]:
    """Return the titles and the rows of a table: both methods and their difference, at a few numbers of trials."""
    names = (found.ours, found.theirs)
    titles: list[tuple[str, Align]] = [("trials", "right"), *((name, "right") for name in names)]
    titles += [("difference", "right"), ("95 % interval", "right")]
    shown = set(milestones([point.n for point in found.points]))
    sides = [_values(curve) for curve in found.curves]
    return titles, [
        [str(point.n), *(_text(side.get(point.n), metric) for side in sides), *_difference(point, metric)]
        for point in found.points
        if point.n in shown
    ]


def comparison_markdown(found: SearchComparison, metric: Metric) -> str:
    """Return a comparison as Markdown."""
    table = "\n".join(markdown_table(*comparison_table(found, metric)))
    head = _title(f"{found.ours} against {found.theirs}")
    return f"{head}\n\n{table}\n\n{bullets(comparison_lines(found))}\n"


def comparison_csv(found: SearchComparison) -> str:
    """Return the differences as CSV, one line per number of trials."""
    facts = {"ours": found.ours, "theirs": found.theirs, "metric": found.metric, "mode": found.mode}
    return csv_text(
        [
            {"n": one.n, "difference": one.value, "low": one.low, "high": one.high, "paired": one.paired, **facts}
            for one in found.points
        ]
    )


def _notes(found: Method) -> tuple[str, ...]:
    added = [f"{found.added}: a verdict on them is exploratory."] if found.added else []
    return (*nothing_found(found, "its replicates"), *added, *found.notes)


def _title(text: str) -> str:
    return f"# {bullets([text]).removeprefix('- ')}"


def _values(curve: SearchCurve) -> dict[int, BestOf]:
    return {point.n: point for point in curve.points}


def _text(point: BestOf | None, metric: Metric) -> str:
    return MISSING if point is None else f"{point.value:.{metric.digits}f}"


def _difference(point: Difference, metric: Metric) -> Sequence[str]:
    if point.low is None or point.high is None:
        return signed(point.value, metric), MISSING
    return signed(point.value, metric), f"{signed(point.low, metric)} to {signed(point.high, metric)}"
