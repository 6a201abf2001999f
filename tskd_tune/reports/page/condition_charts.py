"""The figures of a metric by conditions: lines over numbers, bars over names."""

from __future__ import annotations

import statistics

import plotly.graph_objects as go

from tskd_tune.reports.findings.examples import Conditions
from tskd_tune.reports.page import figures


def by_condition(found: Conditions) -> go.Figure:
    """Draw the mean over seeds of each arm: a line with its 95 % interval over numbers, bars with their deviation."""
    return _lines(found) if found.record.ordered else _bars(found)


def _lines(found: Conditions) -> go.Figure:
    figure = figures.blank(found.metric.heading, 320)
    places = [float(label) for label in found.record.labels]
    drawn = [
        (row, {place: values for place, values in zip(places, row.values, strict=True) if values}) for row in found.rows
    ]
    for row, values in drawn:
        figures.add_band(figure, values, row.place, bounds=found.metric.bounds)
    for row, values in drawn:
        figures.add_mean(figure, values, row.place, row.arm, mode="lines+markers")
    figure.update_xaxes(title={"text": found.record.axis}, rangemode="normal", tickvals=places)
    return figures.with_legend(figure, len(found.rows))


def _bars(found: Conditions) -> go.Figure:
    figure = figures.blank(found.metric.heading, 320)
    for row in found.rows:
        spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in row.values]
        figure.add_bar(
            x=[*map(figures.text, found.record.labels)],
            y=[statistics.fmean(values) if values else None for values in row.values],
            error_y={"type": "data", "array": spread, "thickness": 1.5, "width": 3},
            name=figures.text(row.arm),
            marker={"color": figures.color(row.place)},
            hovertemplate="%{y:.4g}",
        )
    figure.update_xaxes(title={"text": found.record.axis}, rangemode="normal", type="category")
    figure.update_layout(barmode="group")
    return figures.with_legend(figure, len(found.rows))
