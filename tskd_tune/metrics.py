"""What a task measures, how a measured metric is named in rows and histories, and how its values are shown."""

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
"""Stands between the part and the metric where the teacher was measured and not the student."""

PERCENT = "%"


@dataclass(frozen=True)
class Metric:
    """A number by which a task measures a network.

    Attributes:
        name: as in rows and histories, where the part stands before it: ``loss`` gives ``val_loss`` and ``test_loss``.
        title: as tables and charts name it, such as ``top-1``.
        unit: the unit of the number, and of differences between two numbers, such as ``%``; empty where there is none.
            A metric in ``%`` lies between 0 and 100.
        mode: ``max`` where a larger number is better, ``min`` where a smaller one is.
        digits: decimals that are shown.
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
        """Tell whether a value is better than another one; equal values are not."""
        return value > other if self.mode == "max" else value < other

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values, of which there must be at least one."""
        return max(values) if self.mode == "max" else min(values)

    def gain(self, value: float, other: float) -> float:
        """Return by how much a value is better than another one, in the metric's unit; negative where it is worse."""
        return value - other if self.mode == "max" else other - value

    def text(self, value: float, *, sign: bool = False) -> str:
        """Return a value with its digits and its unit: ``71.20 %``; with ``sign`` also a plus."""
        shown = f"{value:{'+' if sign else ''}.{self.digits}f}"
        return f"{shown} {self.unit}" if self.unit else shown

    def plain(self) -> dict[str, str | int]:
        """Return the metric as plain data, as rows and JSON hold it; ``Metric(**plain)`` reads it."""
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "mode": self.mode,
            "digits": self.digits,
        }


@dataclass(frozen=True)
class Measured:
    """A metric of one part, of the student or of a teacher that learns beside it.

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
        """Read a name of rows and histories; None where the name is none of a measured metric.

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
    """Return the name of a metric of a part in rows and histories.

    >>> measured("validation", "loss")
    'val_loss'
    """
    return Measured(part, metric if isinstance(metric, str) else metric.name, teacher).name


def undeclared(name: str) -> Metric:
    """Return what is assumed of a metric that its run did not declare: runs written before tasks declared metrics.

    A name such as ``top5`` is an accuracy in percent. Of a loss or an error less is better, of all others more.
    """
    accuracy = re.fullmatch(r"top(\d+)", name)
    if accuracy:
        return Metric(name, f"top-{accuracy[1]}", PERCENT, "max")
    less = any(word in name for word in ("loss", "error"))
    return Metric(name, name.replace("_", " "), "", "min" if less else "max", digits=4)


def metric_of(name: str, metrics: Iterable[Metric]) -> Metric:
    """Return the metric of a name of rows and histories (``val_loss``) or of a task (``loss``).

    Args:
        name: the name.
        metrics: what the task declared; see `undeclared` for a metric that is not among them.
    """
    found = Measured.read(name)
    own = name if found is None else found.metric
    return next((metric for metric in metrics if metric.name == own), undeclared(own))


def heading(name: str, metrics: Iterable[Metric]) -> str:
    """Return the heading of a column of a measured metric, with the part before it: ``val loss``."""
    found = Measured.read(name)
    own = metric_of(name, metrics).heading
    if found is None:
        return own
    return " ".join([PREFIXES[found.part], *([TEACHER] if found.teacher else []), own])
