"""What a study found, as records: sentences, figures with their numbers, tables, and what was left out of the numbers.

`Found` is written to ``found.json``, together with how the study was made, and is read from there.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from tskd_tune.errors import RunError, sentences

Cell: TypeAlias = str | int | float | None
"""A value of a table. A float is finite; None is a value that was not measured."""

FOUND = "found.json"


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns; each figure and each table of a study has a CSV file with these."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        """Refuse a row with another number of values than there are columns."""
        wrong = [row for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"a row has {len(wrong[0])} values, but there are {len(self.columns)} columns: {wrong[0]}")

    def column(self, name: str) -> list[Cell]:
        """Return the values of a column.

        Raises:
            ValueError: there is no such column.
        """
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def csv(self) -> str:
        """Return the table as CSV, floats with all of their digits; a value that was not measured is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(
            ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row]
            for row in self.rows
        )
        return text.getvalue()


@dataclass(frozen=True)
class Chart:
    """How a figure is drawn from the columns of its table; `tskd_tune.studies.drawing` draws it with plotly.

    Attributes:
        kind: ``lines`` (y over x), ``points`` (y over x), ``bars`` (y for each x, side by side for each group), or
            ``intervals`` (one row for each x, with y and its interval along the horizontal axis).
        x: the column of the places.
        y: the column of the values.
        group: the column whose values have a color and an entry in the legend each; None: one color.
        line: the column that separates the lines of a group, which are drawn thin; None: one line for each group.
        low: the column of the lower ends of intervals; None: no intervals.
        high: the column of the upper ends.
        x_title: the title of the horizontal axis, with its unit.
        y_title: the title of the vertical axis, with its unit.
        reference: a value at which a line is drawn, such as "no difference"; None: no line.
        log: whether the axis of the values is logarithmic.
    """

    kind: Literal["lines", "points", "bars", "intervals"]
    x: str
    y: str
    group: str | None = None
    line: str | None = None
    low: str | None = None
    high: str | None = None
    x_title: str = ""
    y_title: str = ""
    reference: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure: its numbers, how they are drawn, and what it says.

    Attributes:
        name: the name of the CSV file, without its ending; letters, digits, ``-`` and ``_``.
        title: the title on the page.
        says: what the figure shows, in one or two sentences.
        table: the numbers that are drawn.
        chart: how they are drawn.
    """

    name: str
    title: str
    says: str
    table: Table
    chart: Chart


@dataclass(frozen=True)
class NamedTable:
    """A table of the page, with a CSV file of its name."""

    name: str
    title: str
    says: str
    table: Table


@dataclass(frozen=True)
class Found:
    """What a study found.

    Attributes:
        sentences: the answer, the most important sentence first, each with its interval and number of seeds.
        figures: the figures.
        tables: the tables.
        counted: what was left out of the numbers or replaced in them, and how often, also where it is never; the first
            column names it, the last column is the number.
    """

    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    tables: tuple[NamedTable, ...]
    counted: Table


@dataclass(frozen=True)
class Made:
    """How a study was made.

    Attributes:
        study: the name of the study.
        summary: what the study asks.
        command: the command that makes the same files again, without ``--output``.
        options: the options of the study, seeds among them.
        versions: the versions of what can affect the numbers.
        threads: the number of threads that each job computes with.
    """

    study: str
    summary: str
    command: str
    options: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 1


@dataclass(frozen=True)
class StudyFile:
    """The content of ``found.json``."""

    made: Made
    found: Found

    def json(self) -> str:
        """Return the content as JSON; the same content gives the same bytes.

        Raises:
            ValueError: a number is not finite.
        """
        return f"{_text(asdict(self))}\n"


def _text(value: object, indent: str = "") -> str:
    """Return a value as JSON with one line for each row of a table."""
    inner = f"{indent} "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {_text(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(one, dict | list | tuple) for one in value):
        return "[\n" + ",\n".join(f"{inner}{_text(one, inner)}" for one in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_found(path: Path) -> StudyFile:
    """Read a ``found.json``.

    Raises:
        RunError: there is no such file, or its content is not what a study writes.
    """
    try:
        return TypeAdapter(StudyFile).validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); make it with `tskd-tune study NAME`") from error
    except ValidationError as error:
        said = "; ".join(sentences(error)[:3])
        raise RunError(f"{path}: is not what this version writes ({said}); make it anew with its command") from error
