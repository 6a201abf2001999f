"""The place of a run among the replicates of a search: runs NAME-1, NAME-2 and so on of the group NAME."""

from __future__ import annotations

from pydantic import PositiveInt

from tskd_tune.records.row import Record


class Replicate(Record):
    """The place of a run among the replicates of a search.

    Attributes:
        group: the name of the group; the run is called ``GROUP-NUMBER``.
        number: the number of the replicate, from 1.
    """

    group: str
    number: PositiveInt

    @property
    def run(self) -> str:
        """The name of the run."""
        return f"{self.group}-{self.number}"
