"""Studies: questions that are answered by several trainings or computations, each with one command and one page.

A study is a component. Its constructor takes options only, whose defaults are the full study. ``tskd-tune study NAME``
runs it, and writes a page of figures, the numbers of each figure, and ``found.json``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from tskd_tune.plain import Json
from tskd_tune.registry import Registry
from tskd_tune.studies.found import Cell, Chart, Figure, Found, NamedTable, Table
from tskd_tune.studies.place import Place

__all__ = ["STUDIES", "Cell", "Chart", "Figure", "Found", "NamedTable", "Place", "Study", "Table"]


class Study(ABC):
    """A question, and how it is answered.

    Attributes:
        quick: the options of ``--quick``, with which the study takes less than two minutes on two cores.
    """

    quick: ClassVar[Mapping[str, Json]]

    @abstractmethod
    def run(self, place: Place) -> Found:
        """Do the study in ``place``, or what is left of it, and return what was found.

        The numbers depend on the options alone: no clock, no host and no order of arrival, except where a study
        measures seconds.

        Raises:
            RunError: something failed; what is finished is kept in ``place``.
        """


STUDIES: Registry[Study] = Registry("studies", Study)
