"""Draws the figures of studies with plotly, with the colors and the frame of the reports' figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import plotly.graph_objects as go

from tskd_tune.reports.page import figures
from tskd_tune.studies.found import Cell, Chart, Figure, Table

HEIGHT, ROW_HEIGHT, MARK_HEIGHT = 340, 24, 12
Columns: TypeAlias = Mapping[str, list[Cell]]


def drawn(figure: Figure) -> go.Figure:
    """Draw a figure from its table.

    Raises:
        ValueError: the chart names a column that the table does not have.
    """
    chart = figure.chart
    groups = list(_parts(figure.table, chart.group))
    if chart.kind == "intervals":
        canvas = _intervals(groups, chart)
    else:
        canvas = figures.blank(chart.y_title, HEIGHT)
        canvas.update_layout(hovermode="closest", xaxis={"title": {"text": figures.text(chart.x_title)}})
        for index, (name, table) in enumerate(groups):
            _add(canvas, chart, index, name, table)
        if chart.reference is not None:
            canvas.add_hline(chart.reference, line={"color": figures.GRAY, "width": 1, "dash": "dot"})
        if chart.log:
            canvas.update_yaxes(type="log")
        if all(isinstance(value, int | float) for value in figure.table.column(chart.x)):
            canvas.update_xaxes(rangemode="normal")
    return figures.with_legend(canvas, len(groups)) if chart.group is not None else canvas


def _parts(table: Table, column: str | None) -> Iterator[tuple[str, Columns]]:
    """Yield each value of a column, in the order of its first row, with the columns of its rows."""
    keys = [""] * len(table.rows) if column is None else [str(key) for key in table.column(column)]
    for name in dict.fromkeys(keys):
        rows = [row for row, key in zip(table.rows, keys, strict=True) if key == name]
        yield name, dict(zip(table.columns, map(list, zip(*rows, strict=True)), strict=True))


def _add(canvas: go.Figure, chart: Chart, index: int, name: str, columns: Columns) -> None:
    if chart.kind == "lines" and chart.line is not None:
        _add_fan(canvas, chart, index, name, columns)
        return
    look = {"color": figures.color(index)}
    common = {
        "x": columns[chart.x],
        "y": columns[chart.y],
        "name": figures.text(name),
        "showlegend": chart.group is not None,
        "legendgroup": str(index),
    }
    if chart.kind == "lines":
        _add_band(canvas, chart, index, columns)
        canvas.add_scatter(**common, mode="lines", line=look | {"width": 2, "dash": figures.dashes(index)})
        return
    errors = _errors(chart, columns)
    if chart.kind == "bars":
        canvas.add_bar(**common, marker=look, error_y=errors)
    else:
        canvas.add_scatter(**common, mode="markers", marker=look | {"size": 7}, error_y=errors)


def _add_fan(canvas: go.Figure, chart: Chart, index: int, name: str, columns: Columns) -> None:
    """Draw each line of a group thin, with breaks between the lines, so that the group is one trace."""
    xs: list[Cell] = []
    ys: list[Cell] = []
    keys = columns[str(chart.line)]
    for key in dict.fromkeys(keys):
        places = [place for place, found in enumerate(keys) if found == key]
        xs += [*(columns[chart.x][place] for place in places), None]
        ys += [*(columns[chart.y][place] for place in places), None]
    canvas.add_scatter(
        x=xs,
        y=ys,
        name=figures.text(name),
        showlegend=chart.group is not None,
        mode="lines",
        opacity=0.45,
        line={"color": figures.color(index), "width": 1},
        hoverinfo="skip",
    )


def _add_band(canvas: go.Figure, chart: Chart, index: int, columns: Columns) -> None:
    if chart.low is None or chart.high is None:
        return
    ends = zip(columns[chart.x], columns[chart.low], columns[chart.high], strict=True)
    known = [(x, low, high) for x, low, high in ends if low is not None and high is not None]
    canvas.add_scatter(
        x=[x for x, _, _ in known] + [x for x, _, _ in reversed(known)],
        y=[high for _, _, high in known] + [low for _, low, _ in reversed(known)],
        fill="toself",
        fillcolor=figures.color(index),
        opacity=0.15,
        line={"width": 0},
        mode="lines",
        legendgroup=str(index),
        showlegend=False,
        hoverinfo="skip",
    )


def _errors(chart: Chart, columns: Columns) -> dict[str, object] | None:
    """Return the distances from the values to the ends of their intervals; 0 where there is no interval."""
    if chart.low is None or chart.high is None:
        return None

    def distances(ends: list[Cell], sign: int) -> list[float]:
        pairs = zip(columns[chart.y], ends, strict=True)
        return [
            sign * (end - value) if isinstance(end, int | float) and isinstance(value, int | float) else 0.0
            for value, end in pairs
        ]

    return {
        "type": "data",
        "symmetric": False,
        "array": distances(columns[chart.high], 1),
        "arrayminus": distances(columns[chart.low], -1),
        "width": 3,
        "thickness": 1.5,
    }


def _intervals(groups: list[tuple[str, Columns]], chart: Chart) -> go.Figure:
    """Draw values with their intervals along the horizontal axis, the first row at the top."""
    labels = list(dict.fromkeys(str(label) for _, columns in groups for label in columns[chart.x]))
    canvas = figures.blank(None, 90 + max(ROW_HEIGHT, MARK_HEIGHT * len(groups)) * max(1, len(labels)))
    for index, (name, columns) in enumerate(groups):
        canvas.add_scatter(
            x=columns[chart.y],
            # Groups share a row, so each is moved a little.
            y=[labels.index(str(label)) + 0.6 * (index + 0.5) / len(groups) - 0.3 for label in columns[chart.x]],
            name=figures.text(name),
            showlegend=chart.group is not None,
            mode="markers",
            marker={"color": figures.color(index), "size": 8},
            error_x=_errors(chart, columns),
            customdata=[figures.text(str(label)) for label in columns[chart.x]],
            hovertemplate="%{customdata}: %{x:.4g}",
        )
    ticks = {"tickvals": list(range(len(labels))), "ticktext": [figures.text(label) for label in labels]}
    canvas.update_layout(
        hovermode="closest",
        xaxis={"title": {"text": figures.text(chart.y_title)}, "rangemode": "normal"},
        yaxis=ticks | {"range": [len(labels) - 0.5, -0.5], "title": {"text": figures.text(chart.x_title)}},
    )
    if chart.reference is not None:
        canvas.add_vline(chart.reference, line={"color": figures.GRAY, "width": 1, "dash": "dot"})
    if chart.log:
        canvas.update_xaxes(type="log")
    return canvas
