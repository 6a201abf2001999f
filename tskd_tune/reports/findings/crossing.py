"""The differences of comparisons under several teachers, from the rows of their arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tskd_tune.records.row import Row
from tskd_tune.reports.findings.several_teachers import cells_of
from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.variance_components import Crossed, differences


def crossed(
    rows: Mapping[str, Sequence[Row]],
    values: Mapping[str, Values],
    pairs: Sequence[tuple[str, str]],
    twins: Mapping[str, str],
    metric: str,
) -> Crossed:
    """Return the differences of the comparisons under several teachers.

    Args:
        rows: label -> the rows of the arm.
        values: label -> seed -> value, the mean over the teachers.
        pairs: the comparisons.
        twins: label of an arm with moved values -> label of the arm; a constant changes no variance.
        metric: the name of the metric in rows.
    """
    cells = {label: cells_of(of, metric) for label, of in rows.items()}
    found = {}
    for pair in pairs:
        ours, theirs = (twins.get(name, name) for name in pair)
        if cells.get(ours) or cells.get(theirs):
            found[pair] = differences(cells.get(ours, {}), cells.get(theirs, {}), values[ours], values[theirs])
    return found
