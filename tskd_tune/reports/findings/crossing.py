"""The differences of comparisons under several teachers, from the cells of their arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tskd_tune.reports.judge.values import Values
from tskd_tune.reports.judge.variance_components import Cells, Crossed, differences


def crossed(
    cells: Mapping[str, Cells], values: Mapping[str, Values], pairs: Sequence[tuple[str, str]], twins: Mapping[str, str]
) -> Crossed:
    """Return the differences of the comparisons under several teachers.

    Args:
        cells: label -> the cells of the arm; empty for an arm without several teachers.
        values: label -> seed -> value, the mean over the teachers.
        pairs: the comparisons.
        twins: label of an arm with moved values -> label of the arm; a constant changes no variance.
    """
    found = {}
    for pair in pairs:
        ours, theirs = (twins.get(name, name) for name in pair)
        if cells.get(ours) or cells.get(theirs):
            found[pair] = differences(cells.get(ours, {}), cells.get(theirs, {}), values[ours], values[theirs])
    return found
