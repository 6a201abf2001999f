"""Draws the figures of studies as still pictures (SVG) for pages that have no scripts, with the reports' colors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias
from xml.sax.saxutils import escape, quoteattr

from tskd_tune.reports.page.figures import GRAY, color
from tskd_tune.studies.axis import Axis
from tskd_tune.studies.found import Cell, Chart, Figure

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 70, 16, 14, 48
HEIGHT, ROW, LEGEND_ROW = 260, 26, 20
LETTER = 7.2
"""About the width of a letter, in pixels."""
DOTS = ' stroke-dasharray="2 3"'

Row: TypeAlias = Mapping[str, Cell]


@dataclass(frozen=True)
class _Frame:
    """A chart with its rows by group, and its two axes; `words` are the places of an x axis without numbers."""

    chart: Chart
    groups: Sequence[tuple[str, Sequence[Row]]]
    x: Axis
    y: Axis
    words: Sequence[str]

    def at_x(self, cell: Cell) -> float | None:
        value = float(self.words.index(str(cell))) if self.words else _number(cell)
        return None if value is None else self.x.place(value)

    def at_y(self, cell: Cell) -> float | None:
        value = _number(cell)
        return None if value is None else self.y.place(value)


def still(figure: Figure) -> str:
    """Return a figure as an SVG; the same figure gives the same bytes."""
    parts = list(_rows(figure) if figure.chart.kind == "intervals" else _plot(figure))
    height = _legend_top(figure) + LEGEND_ROW * len(_legend(figure)) + 4
    parts += _legend_parts(figure)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13" fill="{GRAY}" '
        f'font-family="system-ui, -apple-system, Segoe UI, sans-serif" role="img" aria-label={quoteattr(figure.title)}>'
    )
    return "\n".join([head, *parts, "</svg>", ""])


def _groups(figure: Figure) -> list[tuple[str, list[Row]]]:
    rows = [dict(zip(figure.table.columns, row, strict=True)) for row in figure.table.rows]
    group = figure.chart.group
    names = dict.fromkeys("" if group is None else str(row[group]) for row in rows)
    return [(name, [row for row in rows if group is None or str(row[group]) == name]) for name in names]


def _values(figure: Figure, *columns: str | None) -> list[float]:
    cells = [cell for column in columns if column is not None for cell in figure.table.column(column)]
    return [value for value in map(_number, cells) if value is not None]


def _number(cell: Cell) -> float | None:
    return float(cell) if isinstance(cell, int | float) else None


def _plot(figure: Figure) -> Iterator[str]:
    """Draw lines, points or bars over x."""
    chart = figure.chart
    lined = [] if chart.reference is None else [chart.reference]
    zero = [0.0] if chart.kind == "bars" and not chart.log else []
    bottom = TOP + HEIGHT
    y = Axis.over([*_values(figure, chart.y, chart.low, chart.high), *lined, *zero], bottom, TOP, log=chart.log)
    cells = figure.table.column(chart.x)
    words = _words(figure)
    edge = [-0.5, len(words) - 0.5] if words else _values(figure, chart.x)
    whole = all(isinstance(cell, int) for cell in cells)
    frame = _Frame(chart, _groups(figure), Axis.over(edge, LEFT, WIDTH - RIGHT, whole=whole), y, words)
    yield from _axes(frame, bottom)
    for index, (_, rows) in enumerate(frame.groups):
        yield from {"lines": _lines, "points": _points, "bars": _bars}[str(chart.kind)](frame, index, rows)


def _words(figure: Figure) -> list[str]:
    """Return the places of an x axis that is not one of numbers; empty for numbers."""
    cells = figure.table.column(figure.chart.x)
    numeric = figure.chart.kind != "bars" and all(_number(cell) is not None for cell in cells)
    return [] if numeric else list(dict.fromkeys(map(str, cells)))


def _drop(words: Sequence[str]) -> float:
    """Return how far the words under an x axis reach down, in pixels, beyond one line: they lean if they are long."""
    longest = max(map(len, words), default=0) * LETTER
    return 0.5 * longest if longest > (WIDTH - LEFT - RIGHT) / max(1, len(words)) else 0.0


def _axes(frame: _Frame, bottom: float) -> Iterator[str]:
    for value in frame.y.marks():
        at = frame.y.place(value)
        if at is not None:
            yield _line((LEFT, at), (WIDTH - RIGHT, at), GRAY, 0.5, opacity=0.35)
            yield _text(LEFT - 6, at + 4, _written(value), "end")
    places = [(float(place), word) for place, word in enumerate(frame.words)] or [
        (value, _written(value)) for value in frame.x.marks()
    ]
    drop = _drop(frame.words)
    for value, word in places:
        at_word = frame.x.place(value) or 0.0
        if drop:
            leaning = f"rotate(-30 {at_word:.1f} {bottom + 14})"
            yield f'<g transform="{leaning}">{_text(at_word, bottom + 14, word, "end")}</g>'
        else:
            yield _text(at_word, bottom + 18, word, "middle")
    yield _text((LEFT + WIDTH - RIGHT) / 2, bottom + 38 + drop, frame.chart.x_title, "middle")
    middle = (TOP + bottom) / 2
    yield f'<g transform="rotate(-90 14 {middle:.1f})">{_text(14, middle, frame.chart.y_title, "middle")}</g>'
    if frame.chart.reference is not None and (at := frame.y.place(frame.chart.reference)) is not None:
        yield _line((LEFT, at), (WIDTH - RIGHT, at), GRAY, 1.2, dotted=True)


def _lines(frame: _Frame, index: int, rows: Sequence[Row]) -> Iterator[str]:
    chart, column = frame.chart, frame.chart.line
    for _, part in groupby(rows, key=lambda row: None if column is None else str(row[column])):
        found = [(frame.at_x(row[chart.x]), frame.at_y(row[chart.y])) for row in part]
        for drawn, piece in groupby(found, key=lambda at: None not in at):
            if drawn:
                dots = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
                thin = 'stroke-width="2"' if column is None else 'stroke-width="1" opacity="0.45"'
                yield f'<polyline points="{dots}" fill="none" stroke="{color(index)}" {thin}/>'
    if column is None:
        yield from _points(frame, index, rows, 2.5)


def _points(frame: _Frame, index: int, rows: Sequence[Row], radius: float = 4, move: float = 0) -> Iterator[str]:
    for row in rows:
        x, y = frame.at_x(row[frame.chart.x]), frame.at_y(row[frame.chart.y])
        if x is not None and y is not None:
            yield f'<circle cx="{x + move:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color(index)}"/>'
            yield from _whisker(frame, row, x + move, color(index))


def _bars(frame: _Frame, index: int, rows: Sequence[Row]) -> Iterator[str]:
    width = 0.8 * (frame.x.end - frame.x.start) / len(frame.words) / len(frame.groups)
    floor = frame.y.start if frame.chart.log else frame.y.place(0.0) or frame.y.start
    for row in rows:
        middle, y = frame.at_x(row[frame.chart.x]), frame.at_y(row[frame.chart.y])
        if middle is None or y is None:
            continue
        left = middle + width * (index - len(frame.groups) / 2)
        size = f'width="{width:.1f}" height="{abs(floor - y):.1f}"'
        yield f'<rect x="{left:.1f}" y="{min(y, floor):.1f}" {size} fill="{color(index)}" opacity="0.8"/>'
        yield from _whisker(frame, row, left + width / 2, GRAY)


def _whisker(frame: _Frame, row: Row, x: float, stroke: str) -> Iterator[str]:
    chart = frame.chart
    if chart.low is not None and chart.high is not None:
        low, high = frame.at_y(row[chart.low]), frame.at_y(row[chart.high])
        if low is not None and high is not None:
            yield _line((x, low), (x, high), stroke, 1.5)


def _rows(figure: Figure) -> Iterator[str]:
    """Draw one row for each x, with y and its interval along the horizontal axis."""
    chart, groups = figure.chart, _groups(figure)
    labels = list(dict.fromkeys(map(str, figure.table.column(chart.x))))
    left = min(WIDTH / 2, LETTER * max(map(len, labels), default=0) + 16)
    lined = [] if chart.reference is None else [chart.reference]
    values = [*_values(figure, chart.y, chart.low, chart.high), *lined]
    axis, bottom = Axis.over(values, left + 10, WIDTH - RIGHT - 10, log=chart.log), TOP + ROW * len(labels)
    for value in axis.marks():
        at = axis.place(value) or 0.0
        yield _line((at, TOP), (at, bottom), GRAY, 0.5, opacity=0.35)
        yield _text(at, bottom + 18, _written(value), "middle")
    if chart.reference is not None and (at_line := axis.place(chart.reference)) is not None:
        yield _line((at_line, TOP), (at_line, bottom), GRAY, 1.2, dotted=True)
    yield _text((left + WIDTH - RIGHT) / 2, bottom + 38, chart.y_title, "middle")
    for place, label in enumerate(labels):
        yield _text(left, TOP + ROW * (place + 0.5) + 4, label, "end")
    for index, (_, rows) in enumerate(groups):
        for row in rows:
            y = TOP + ROW * (labels.index(str(row[chart.x])) + 0.5 + 0.6 * ((index + 0.5) / len(groups) - 0.5))
            yield from _row(chart, axis, row, y, color(index))


def _row(chart: Chart, axis: Axis, row: Row, y: float, fill: str) -> Iterator[str]:
    low, value, high = (
        None if column is None or (number := _number(row[column])) is None else axis.place(number)
        for column in (chart.low, chart.y, chart.high)
    )
    if low is not None and high is not None:
        yield _line((low, y), (high, y), fill, 1.5)
    if value is not None:
        yield f'<circle cx="{value:.1f}" cy="{y:.1f}" r="4" fill="{fill}"/>'


def _legend(figure: Figure) -> list[str]:
    return [] if figure.chart.group is None else [name for name, _ in _groups(figure)]


def _legend_top(figure: Figure) -> int:
    if figure.chart.kind != "intervals":
        return TOP + HEIGHT + BOTTOM + round(_drop(_words(figure)))
    return TOP + ROW * len(set(map(str, figure.table.column(figure.chart.x)))) + BOTTOM


def _legend_parts(figure: Figure) -> Iterator[str]:
    for index, name in enumerate(_legend(figure)):
        y = _legend_top(figure) + LEGEND_ROW * index
        yield f'<rect x="{LEFT}" y="{y}" width="12" height="12" fill="{color(index)}"/>'
        yield _text(LEFT + 20, y + 11, name, "start")


def _line(
    start: tuple[float, float],
    end: tuple[float, float],
    stroke: str,
    width: float,
    *,
    opacity: float = 1,
    dotted: bool = False,
) -> str:
    (x1, y1), (x2, y2) = start, end
    extra = (f' opacity="{opacity:g}"' if opacity < 1 else "") + (DOTS if dotted else "")
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{stroke}" stroke-width="{width:g}"{extra}/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _written(value: float) -> str:
    return f"{value:.4g}"
