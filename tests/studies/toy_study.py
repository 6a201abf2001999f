"""A study for the tests of the frame: it squares numbers in jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveInt

from tskd_tune.plain import Json
from tskd_tune.studies.base import Chart, Figure, Found, NamedTable, Place, Study, Table


class Here(Place):
    """A place whose jobs are computed in this process, without Ray."""

    computed = 0

    def _computed(self, name, function, jobs):
        for path, job in jobs.items():
            self.computed += 1
            yield path, function(job)


@dataclass(frozen=True)
class Square:
    number: int
    value: float
    threads: str | None


def square(job: int) -> Square:
    if job < 0:
        raise ValueError("too small")
    return Square(job, job**2 / 3, os.environ.get("OMP_NUM_THREADS"))


class Toy(Study):
    """Does a square grow?"""

    quick: ClassVar[Mapping[str, Json]] = {"numbers": 3}

    def __init__(self, *, numbers: PositiveInt = 5, first: int = 0) -> None:
        """Choose the numbers.

        Args:
            numbers: how many numbers are squared.
            first: the first number.
        """
        self.jobs = range(first, first + numbers)

    def run(self, place: Place) -> Found:
        found = place.map("squares", square, list(self.jobs))
        rows = tuple((f"n{one.number}", one.number, one.value, one.value - 1, one.value + 1) for one in found)
        table = Table(("name", "n", "square", "low", "high"), rows)
        charts = {
            "lines": Chart("lines", "n", "square", low="low", high="high"),
            "fan": Chart("lines", "n", "square", group="name", line="name"),
            "points": Chart("points", "n", "square", group="name", low="low", high="high", reference=1.0),
            "bars": Chart("bars", "name", "square", log=True),
            "intervals": Chart("intervals", "name", "square", low="low", high="high", reference=0.0),
        }
        figures = tuple(
            Figure(name, f"Squares as {name}", "They grow.", table, chart) for name, chart in charts.items()
        )
        tables = (NamedTable("all", "All <squares>", "Each square.", table),)
        return Found(("A square grows & grows.",), figures, tables, Table(("what", "number"), (("failed", 0),)))
