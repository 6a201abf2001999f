"""The appearance of a report's figures: one palette, one frame, intervals as bands.

Figures have no background and gray text, so they are readable on light and on dark pages.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import plotly.graph_objects as go
import plotly.io
from scipy import special

from tskd_tune.reports.findings.scale import cut

COLORS = ("#2f7ed8", "#d9822b", "#2a9d70", "#c94f5b", "#8a6fc4", "#2aa3b8", "#a8892c", "#b9608f")
DASHES = ("solid", "dash", "dot", "dashdot")
GRAY = "#7b7b7b"
# The HTML class of every figure.
CLASS = 'class="plotly-graph-div"'
GRID = "rgba(128,128,128,0.22)"
LEAST_BAND = 3
# The largest number of figures of one kind; further figures are left out.
MOST_FIGURES = 3
# The height in pixels of a legend's entry, and of the ticks and the title of the axis above the legend.
LEGEND_ROW, LEGEND_DROP = 20, 56


Values: TypeAlias = Mapping[int, Sequence[float]] | Mapping[float, Sequence[float]]
"""Place on the x axis, such as an epoch -> the value of each seed."""


def blank(y_title: str | None, height: int) -> go.Figure:
    """Return an empty figure over epochs; its height is in pixels, without a legend."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 8}}
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": GRAY, "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"},
            "margin": {"l": 8, "r": 8, "t": 12, "b": 8},
            "hovermode": "x unified",
            "hoverlabel": {"bgcolor": "#f4f4f2", "font": {"color": "#222222"}},
            "legend": {"orientation": "h", "yanchor": "top", "y": -0.18, "x": 0},
            "xaxis": axis | {"title": {"text": "epoch", "standoff": 8}, "rangemode": "tozero"},
            "yaxis": axis | {"title": {"text": y_title, "standoff": 8}},
        }
    )


def with_legend(figure: go.Figure, entries: int) -> go.Figure:
    """Make room for a legend below the title of the x axis, for one entry per row as on a phone."""
    height = figure.layout.height
    figure.update_layout(height=height + LEGEND_ROW * entries, legend={"y": -LEGEND_DROP / (height - LEGEND_DROP)})
    return figure


def add_mean(
    figure: go.Figure,
    values: Values,
    index: int,
    arm: str,
    *,
    mode: str = "lines",
    dash: str | None = None,
) -> None:
    """Draw the mean over seeds by epoch in the color and dashes of ``index``; ``values``: epoch -> value per seed."""
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=text(arm),
        legendgroup=str(index),
        mode=mode,
        line={"color": color(index), "width": 2, "dash": dash or dashes(index)},
        marker={"color": color(index), "size": 6},
        hovertemplate="%{y:.4g}",
    )


def add_band(
    figure: go.Figure,
    values: Values,
    index: int,
    *,
    bounds: tuple[float, float] | None = None,
) -> None:
    """Shade the 95 % interval of the mean, cut at the bounds of the metric.

    Fewer than three seeds have no band, because the band would hide everything else.
    """
    bands = {epoch: band(found) for epoch, found in values.items() if len(found) >= LEAST_BAND}
    if bounds:
        bands = {epoch: cut(*ends, bounds) for epoch, ends in bands.items()}
    if not bands:
        return
    epochs = list(bands)
    figure.add_scatter(
        x=epochs + epochs[::-1],
        y=[high for _, high in bands.values()] + [low for low, _ in bands.values()][::-1],
        fill="toself",
        fillcolor=color(index),
        opacity=0.12,
        line={"width": 0},
        mode="lines",
        legendgroup=str(index),
        showlegend=False,
        hoverinfo="skip",
    )


def band(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % t interval of the mean of at least two values."""
    mean, n = statistics.fmean(values), len(values)
    half = float(special.stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return mean - half, mean + half


def look(index: int) -> dict[str, str]:
    """Return the color of an arm by its place, and the CSS name of its dashes."""
    styles = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "double"}
    return {"color": color(index), "style": styles[dashes(index)]}


def color(index: int) -> str:
    """Return the color of an arm by its place; after eight arms the colors repeat."""
    return COLORS[index % len(COLORS)]


def dashes(index: int) -> str:
    """Return the dashes of an arm by its place; arms with the same color have different dashes."""
    return DASHES[index // len(COLORS) % len(DASHES)]


def text(label: str) -> str:
    """Return a label as text for plotly, which interprets some tags and does not decode ``&quot;``."""
    return html.escape(label, quote=False)


def as_html(figure: go.Figure, name: str) -> str:
    """Return a figure as a ``div`` with a fixed id and its script. The page contains plotly's own code once."""
    text: str = plotly.io.to_html(
        figure,
        include_plotlyjs=False,
        full_html=False,
        div_id=f"figure-{name}",
        config={"responsive": True, "displayModeBar": False},
    )
    return text
