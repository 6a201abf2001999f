"""The place of a run among the replicates of a search: runs NAME-1, NAME-2 and so on of the group NAME."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import PositiveInt

from tskd_tune.records.entries.row import Record


class Replicate(Record):
    """The place of a run among the replicates of a search.

    Attributes:
        group: the name of the group; the run is called ``GROUP-NUMBER``.
        number: the number of the replicate, from 1.
        declared: the number of replicates that was declared when this one began; None in runs that did not keep it.
    """

    group: str
    number: PositiveInt
    declared: PositiveInt | None = None

    @property
    def run(self) -> str:
        """The name of the run."""
        return f"{self.group}-{self.number}"

    def is_same(self, other: Replicate | None) -> bool:
        """Tell whether another run has the same place; the declared number grows where replicates are added."""
        return other is not None and (self.group, self.number) == (other.group, other.number)


def first_declared(begun: Sequence[tuple[str, Replicate | None]]) -> int | None:
    """Return the number of replicates that a group was to have at its start; None where nobody knows.

    Args:
        begun: for each run, when it was made, as ISO 8601, and its place among the replicates.
    """
    known = [(created, one.number, one.declared) for created, one in begun if one is not None]
    return min(known)[2] if known else None
