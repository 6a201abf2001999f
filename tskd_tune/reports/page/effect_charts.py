"""The figures of arms and trials: the headline against k, delta, costs and searched parameters; and importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tskd_tune.reports.findings.effects import Along, Point, Response, Slice
from tskd_tune.reports.page import figures

BY_K_OR_DELTA: Mapping[Along, str] = {"k": "k", "delta": "δ"}


def response(found: Response, along: Along, title: str, digits: int = 2) -> go.Figure:
    """Draw the headline along k or delta, one line per value of the other option.

    Points with at least three seeds have 95 % intervals. The number at a point is its number of reviews. Dotted lines
    connect points with the same number of reviews.
    """
    other: Along = "delta" if along == "k" else "k"
    figure = figures.blank(title, 320)
    for points in found.matched().values():
        _add_matched(figure, sorted(points, key=lambda point: point.at(along)), along)
    for index, (value, points) in enumerate(found.lines(along).items()):
        _add_line(figure, points, along, (index, f"{BY_K_OR_DELTA[other]} = {value}", digits))
    values = sorted({point.at(along) for point in found.points})
    room = 0.12 * (values[-1] - values[0])
    figure.update_xaxes(
        title={"text": BY_K_OR_DELTA[along]},
        tickmode="array",
        tickvals=values,
        rangemode="normal",
        range=[values[0] - room, values[-1] + room],
    )
    figure.update_layout(hovermode="closest")
    return figures.with_legend(figure, len(found.lines(along)))


def _add_matched(figure: go.Figure, points: Sequence[Point], along: Along) -> None:
    figure.add_scatter(
        x=[point.at(along) for point in points],
        y=[point.mean for point in points],
        mode="lines",
        line={"color": figures.GRAY, "width": 1.5, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )


def _add_line(figure: go.Figure, points: Sequence[Point], along: Along, look: tuple[int, str, int]) -> None:
    index, name, digits = look
    figure.add_scatter(
        x=[point.at(along) for point in points],
        y=[point.mean for point in points],
        error_y=_errors(
            [point.mean for point in points],
            [point.interval if point.n >= figures.LEAST_BAND else None for point in points],
        ),
        name=name,
        mode="lines+markers+text",
        text=[str(point.reviews) for point in points],
        textposition="top right",
        line={"color": figures.color(index), "width": 2},
        marker={"color": figures.color(index), "size": 8},
        customdata=[[figures.text(point.arm), point.reviews, point.n] for point in points],
        hovertemplate=f"%{{customdata[0]}}<br>%{{y:.{digits}f}}, %{{customdata[1]}} reviews, %{{customdata[2]}} seeds"
        "<extra></extra>",
    )


def _errors(means: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> dict[str, Any]:
    """Return plotly's error bars; a point without an interval has bars of length 0."""
    ends = [found or (mean, mean) for mean, found in zip(means, intervals, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
        "arrayminus": [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
        "thickness": 1.2,
        "width": 4,
    }


@dataclass(frozen=True)
class Costed:
    """A point and its cost: the label, the value, the cost, the interval of the value, and the number on the front.

    ``cost`` is in seconds or bytes, or in the unit of a metric.
    """

    arm: str
    cost: float
    value: float
    interval: tuple[float, float] | None
    front: int | None


def costs(points: Sequence[Costed], title: str, cost: str, *, joined: bool = True, digits: int = 2) -> go.Figure:
    """Draw a metric against a cost. Points on the Pareto front are numbered; a front of two objectives is a line.

    Args:
        points: at least one point.
        title: the title of the metric.
        cost: ``seconds``, ``memory``, or the title of another objective on the x axis.
        joined: whether to connect the points of the front by a line.
        digits: the decimals of the metric.
    """
    figure = figures.blank(title, 380)
    axis, size = _cost_axis(cost, max(point.cost for point in points))
    front = sorted((point for point in points if point.front), key=lambda point: point.front or 0)
    rest = [point for point in points if not point.front]
    for group, color, mode, name in (
        (rest, figures.GRAY, "markers", "beaten"),
        (front, figures.COLORS[0], "lines+markers+text" if joined else "markers+text", "Pareto front"),
    ):
        if group:
            look = {"color": color, "mode": mode, "name": name}
            _add_costs(figure, group, size, look, digits)
    wide = 0 < 10 * min(point.cost for point in points) < max(point.cost for point in points)
    figure.update_xaxes(title={"text": axis}, rangemode="normal", type="log" if wide else "linear")
    figure.update_layout(hovermode="closest")
    return figures.with_legend(figure, 2)


def _add_costs(figure: go.Figure, points: Sequence[Costed], size: float, look: Mapping[str, str], digits: int) -> None:
    figure.add_scatter(
        x=[point.cost / size for point in points],
        y=[point.value for point in points],
        error_y=_errors([point.value for point in points], [point.interval for point in points]),
        name=look["name"],
        mode=look["mode"],
        text=[str(point.front or "") for point in points],
        textposition="top left",
        line={"color": look["color"], "width": 1.5, "shape": "hv"},
        marker={"color": look["color"], "size": 8},
        customdata=[figures.text(point.arm) for point in points],
        hovertemplate=f"%{{customdata}}<br>%{{y:.{digits}f}} at %{{x:.3g}}<extra></extra>",
    )


def _cost_axis(cost: str, largest: float) -> tuple[str, float]:
    """Return the axis title of a cost with its unit, and the size of the unit."""
    if cost == "memory":
        return "peak memory (MiB)", 2.0**20
    if cost != "seconds":
        return cost, 1.0
    unit, size = ("h", 3600.0) if largest >= 3600 else ("min", 60.0) if largest >= 60 else ("s", 1.0)
    return f"training per seed ({unit})", size


@dataclass(frozen=True)
class Shares:
    """The importance of each parameter by two measures; the shares of each measure sum to 1."""

    parameters: Sequence[str]
    fanova: Sequence[float]
    ped_anova: Sequence[float]


def shares(found: Shares) -> go.Figure:
    """Draw the two shares of each parameter as bars, the largest at the top."""
    figure = figures.blank("", 80 + 40 * len(found.parameters))
    names = [figures.text(name) for name in found.parameters]
    for values, color, name in (
        (found.fanova, figures.COLORS[0], "of the variance (fANOVA)"),
        (found.ped_anova, figures.COLORS[1], "of what sets the best apart (PED-ANOVA)"),
    ):
        figure.add_bar(
            x=[100 * value for value in values],
            y=names,
            orientation="h",
            name=name,
            marker={"color": color},
            hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        )
    figure.update_xaxes(title={"text": "share (%)"}, range=[0, 100], rangemode="normal")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(barmode="group", hovermode="closest")
    return figures.with_legend(figure, 2)


def sliced(found: Slice, title: str, digits: int = 2) -> go.Figure:
    """Draw the headline of every trial against one parameter."""
    figure = figures.blank(title, 260)
    figure.add_scatter(
        x=list(found.values),
        y=list(found.means),
        mode="markers",
        marker={"color": figures.COLORS[0], "size": 8, "opacity": 0.7},
        customdata=[figures.text(arm) for arm in found.arms],
        hovertemplate=f"%{{customdata}}<br>%{{y:.{digits}f}}<extra></extra>",
        showlegend=False,
    )
    kind = "category" if found.numbers is None else "log" if found.is_wide else "linear"
    figure.update_xaxes(title={"text": figures.text(found.parameter)}, type=kind, rangemode="normal")
    figure.update_layout(hovermode="closest")
    return figure
