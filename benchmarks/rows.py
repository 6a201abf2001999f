"""The records of the benchmarks, as a table for a terminal and as plain data for ``--json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, Self

from rich.table import Table

from benchmarks.environment import Environment

Clock = Literal["cpu", "wall"]
Exactness = Literal["bitwise", "rounding", "changes results"]


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock on the wall, and of all CPU cores that worked for it, worker processes included."""

    wall: float
    cpu: float

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, factor: float) -> Spent:
        return Spent(self.wall * factor, self.cpu * factor)

    def by(self, clock: Clock) -> float:
        """Return the seconds of one of the two clocks."""
        return self.wall if clock == "wall" else self.cpu

    @classmethod
    def median(cls, of: Sequence[Spent]) -> Self:
        """Return the median of each clock."""
        return cls(median(spent.wall for spent in of), median(spent.cpu for spent in of))


@dataclass(frozen=True)
class Goal:
    """A goal of the project, and the figure that is compared with it.

    Attributes:
        what: what the figure is, with its unit.
        value: the figure.
        limit: the goal.
        at_least: whether the figure should be at least the limit; otherwise at most.
    """

    what: str
    value: float
    limit: float
    at_least: bool

    @property
    def is_met(self) -> bool:
        """Whether the figure reaches the goal."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign, word = (">=" if self.at_least else "<="), "met" if self.is_met else "missed"
        return f"{self.what} {self.value:.3g} ({sign} {self.limit:g}: {word})"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: our time beside the reference's.

    Attributes:
        suite: the suite of the figure.
        name: what was measured.
        device: ``cpu`` or the name of the GPU.
        precision: the number format of the networks' activations.
        layout: how images lie in memory, ``NCHW`` or ``channels_last``.
        unit: what the seconds are of.
        clock: the clock of ``ratio``: CPU seconds on a CPU, whose neighbours disturb the wall clock; otherwise wall.
        ours: the median of our times.
        reference: the median of the times of what we are compared with.
        exactness: how our numbers differ from those of the reference; asserted when the figure was measured.
        compared: which numbers were compared, and with what.
        difference: their relative difference, 0 if every bit is equal.
        prepare_seconds: seconds before the first timed step, those of captures and of compilation included.
        floor_seconds: the time that the operations or the bytes take at the ceilings of this device.
        goals: the goals that the figure is held against.
        repeats: ours and the reference's times, by repeat.
        more: further numbers, by name.
    """

    suite: str
    name: str
    device: str
    precision: str
    layout: str
    unit: str
    clock: Clock
    ours: Spent
    reference: Spent
    exactness: Exactness
    compared: str
    difference: float = 0.0
    prepare_seconds: float | None = None
    floor_seconds: float | None = None
    goals: tuple[Goal, ...] = ()
    repeats: tuple[tuple[Spent, Spent], ...] = ()
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The reference's time divided by ours."""
        return self.reference.by(self.clock) / self.ours.by(self.clock)

    @property
    def floor_fraction(self) -> float | None:
        """The floor divided by our time: 1 would be as fast as the device can be."""
        return None if self.floor_seconds is None else self.floor_seconds / self.ours.by(self.clock)

    def plain(self) -> dict[str, object]:
        """Return the row for ``--json``."""
        ratios = {"ratio": self.ratio, "ratio_wall": self.reference.wall / self.ours.wall}
        ratios["ratio_cpu"] = self.reference.cpu / self.ours.cpu if self.ours.cpu else 1.0
        goals = [asdict(goal) | {"met": goal.is_met} for goal in self.goals]
        return asdict(self) | ratios | {"floor_fraction": self.floor_fraction, "goals": goals}


@dataclass(frozen=True)
class Check:
    """The reference compared with its own parts, which were timed apart.

    Attributes:
        name: the step that was checked.
        whole: seconds of the step.
        parts: seconds of each part, by name.
    """

    name: str
    whole: float
    parts: Mapping[str, float]

    @property
    def error(self) -> float:
        """The sum of the parts minus the whole, as a share of the whole."""
        return sum(self.parts.values()) / self.whole - 1

    @property
    def holds(self) -> bool:
        """Whether the parts explain the whole within 15 %."""
        return abs(self.error) <= PARTS_TOLERANCE

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in self.parts.items())
        verdict = "within" if self.holds else "NOT within"
        return (
            f"reference, {self.name}: {1000 * self.whole:.1f} ms; the sum of its parts, timed apart, differs by"
            f" {100 * self.error:+.1f} % ({verdict} {100 * PARTS_TOLERANCE:.0f} %): {parts} ms"
        )


PARTS_TOLERANCE = 0.15


@dataclass(frozen=True)
class Count:
    """A figure that is compared with nothing: of ``what``, so much of a ``unit``."""

    what: str
    unit: str
    value: float

    def __str__(self) -> str:
        return f"{self.what}: {self.value:.4g} {self.unit}"


@dataclass(frozen=True)
class Report:
    """What a suite found.

    Attributes:
        rows: the figures.
        checks: the reference against its parts.
        notes: sentences on how was measured, and what was left out and why.
        counts: figures that are compared with nothing.
        refused: what failed, or computed something else than it should, with the reason; it has no figures.
    """

    rows: tuple[Row, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    counts: tuple[Count, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every check of the reference holds."""
        return all(check.holds for check in self.checks)

    def plain(self, environment: Environment) -> dict[str, object]:
        """Return the content of the file of ``--json``."""
        checks = [asdict(check) | {"error": check.error, "holds": check.holds} for check in self.checks]
        return {
            "rows": [row.plain() for row in self.rows],
            "environment": environment.plain(),
            "checks": checks,
            "counts": [asdict(count) for count in self.counts],
            "notes": list(self.notes),
            "refused": list(self.refused),
        }

    def write(self, path: Path, environment: Environment) -> None:
        """Write the file of ``--json``."""
        path.write_text(json.dumps(self.plain(environment), indent=1) + "\n")


def table(report: Report) -> Table:
    """Return the figures as a table for a terminal."""
    shown = Table()
    for heading in ("what", "unit", "ours", "reference", "ratio", "wall", "floor", "prepare", "exactness"):
        shown.add_column(heading, justify="left" if heading in ("what", "unit", "exactness") else "right")
    for row in report.rows:
        shown.add_row(*_cells(row))
    return shown


def _cells(row: Row) -> tuple[str, ...]:
    floor, prepare = row.floor_fraction, row.prepare_seconds
    return (
        row.name,
        f"{row.clock} {row.unit}",
        _time(row.ours.by(row.clock)),
        _time(row.reference.by(row.clock)),
        f"{row.ratio:.2f}",
        f"{row.reference.wall / row.ours.wall:.2f}",
        "" if floor is None else f"{100 * floor:.1f} %",
        "" if prepare is None else f"{prepare:.1f} s",
        row.exactness + (f" ({row.difference:.0e})" if row.difference else ""),
    )


def _time(seconds: float) -> str:
    if seconds >= 600:
        return f"{seconds / 60:.1f} min"
    return (
        f"{seconds:.2f} s"
        if seconds >= 1
        else f"{1000 * seconds:.3g} ms"
        if seconds >= 1e-4
        else f"{1e6 * seconds:.3g} us"
    )
