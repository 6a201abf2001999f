"""The metrics of a task, their names in rows and histories, and how their values are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["max", "min"]
Part: TypeAlias = Literal["validation", "test"]
"""The parts of a data set on which a network is evaluated."""

PREFIXES: dict[Part, str] = {"validation": "val", "test": "test"}
"""How rows and histories call each part."""

TEACHER = "teacher"
"""The text between part and metric in the name of a teacher's metric."""

PERCENT = "%"


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Attributes:
        name: the name. Rows and histories add the part: ``loss`` gives ``val_loss`` and ``test_loss``.
        title: the name in tables and charts, such as ``top-1``.
        unit: the unit of the number, and of differences between two numbers, such as ``%``; empty without a unit.
            A metric in ``%`` lies between 0 and 100.
        mode: ``max`` if a larger number is better, ``min`` if a smaller number is better.
        digits: the number of decimals shown.
    """

    name: str
    title: str
    unit: str
    mode: Mode
    digits: int = 2

    @property
    def heading(self) -> str:
        """The title with the unit, as the heading of a column: ``top-1 (%)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The lowest and the highest possible value; None where the metric is not in percent."""
        return (0.0, 100.0) if self.unit == PERCENT else None

    def better(self, value: float, other: float) -> bool:
        """Tell whether a value is better than another value; False for equal values."""
        return value > other if self.mode == "max" else value < other

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values, of which there must be at least one."""
        return max(values) if self.mode == "max" else min(values)

    def text(self, value: float, *, sign: bool = False) -> str:
        """Return a value with digits and unit: ``71.20 %``; ``sign`` adds a plus to positive values."""
        shown = f"{value:{'+' if sign else ''}.{self.digits}f}"
        return f"{shown} {self.unit}" if self.unit else shown

    def plain(self) -> dict[str, str | int]:
        """Return the metric as plain data, as in rows and JSON; ``Metric(**plain)`` reads the data."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "mode": self.mode,
            "digits": self.digits,
        }


@dataclass(frozen=True)
class Measured:
    """A metric on one part, of the student or of a teacher that learns together with the student.

    Attributes:
        part: the part on which the network was evaluated.
        metric: the name of the metric.
        teacher: whether the teacher was measured.
    """

    part: Part
    metric: str
    teacher: bool = False

    @property
    def name(self) -> str:
        """The name in rows and histories: ``val_loss``, ``test_teacher_loss``."""
        whose = f"{TEACHER}_" if self.teacher else ""
        return f"{PREFIXES[self.part]}_{whose}{self.metric}"

    @classmethod
    def read(cls, name: str) -> Measured | None:
        """Read a name in rows and histories; None if the name is not that of a measured metric.

        >>> Measured.read("test_teacher_loss")
        Measured(part='test', metric='loss', teacher=True)
        """
        for part, prefix in PREFIXES.items():
            if name.startswith(f"{prefix}_"):
                rest = name.removeprefix(f"{prefix}_")
                teacher = rest.startswith(f"{TEACHER}_")
                metric = rest.removeprefix(f"{TEACHER}_") if teacher else rest
                return cls(part, metric, teacher) if metric else None
        return None


def measured(part: Part, metric: Metric | str, *, teacher: bool = False) -> str:
    """Return the name in rows and histories of a metric on a part.

    >>> measured("validation", "loss")
    'val_loss'
    """
    return Measured(part, metric if isinstance(metric, str) else metric.name, teacher).name


def undeclared(name: str) -> Metric:
    """Return the assumed properties of a metric that a run did not declare; runs of older versions declare none.

    A name such as ``top5`` is an accuracy in percent. For a loss or an error smaller is better, otherwise larger.
    """
    accuracy = re.fullmatch(r"top(\d+)", name)
    if accuracy:
        return Metric(name, f"top-{accuracy[1]}", PERCENT, "max")
    less = any(word in name for word in ("loss", "error"))
    return Metric(name, name.replace("_", " "), "", "min" if less else "max", digits=4)


def metric_of(name: str, metrics: Iterable[Metric]) -> Metric:
    """Return the metric for a name in rows and histories (``val_loss``) or of a task (``loss``).

    Args:
        name: the name.
        metrics: the metrics that the task declared; see `undeclared` for any other metric.
    """
    found = Measured.read(name)
    own = name if found is None else found.metric
    return next((metric for metric in metrics if metric.name == own), undeclared(own))


def heading(name: str, metrics: Iterable[Metric]) -> str:
    """Return the heading of a measured metric's column, beginning with the part: ``val loss``."""
    found = Measured.read(name)
    own = metric_of(name, metrics).heading
    if found is None:
        return own
    return " ".join([PREFIXES[found.part], *([TEACHER] if found.teacher else []), own])
