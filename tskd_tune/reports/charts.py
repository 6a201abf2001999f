"""The figures of a report: accuracy over epochs, what the reviews showed, and the arms set against k, delta and cost.

Figures have no background and gray lettering, so that they stand on light and on dark pages alike.
"""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io
from scipy import special

from tskd_tune.reports.effects import Point, Response, Slice

COLORS = ("#2f7ed8", "#d9822b", "#2a9d70", "#c94f5b", "#8a6fc4", "#2aa3b8", "#a8892c", "#b9608f")
DASHES = ("solid", "dash", "dot", "dashdot")
GRAY = "#7b7b7b"
GRID = "rgba(128,128,128,0.22)"
MOST_ARMS = 8
LEAST_BAND = 3
# Pixels: what an entry of a legend takes, and what the ticks and the title of an axis take above it.
LEGEND_ROW, LEGEND_DROP = 20, 56
BY_K_OR_DELTA: Mapping[str, str] = {"k": "k", "delta": "δ"}
FAINT = 0.01

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Curves:
    """The histories of one arm: label, one list of lines a seed, by epoch."""

    arm: str
    seeds: Sequence[Sequence[Line]]

    def values(self, key: str) -> dict[int, list[float]]:
        """Return epoch -> the values of a metric over seeds, where it was measured."""
        found: dict[int, list[float]] = {}
        for lines in self.seeds:
            for line in lines:
                if line.get(key) is not None:
                    found.setdefault(line["epoch"], []).append(line[key])
        return dict(sorted(found.items()))

    def ratio(self) -> dict[int, list[float]]:
        """Return epoch -> the norm of the review's gradient over that of all other losses, by seed."""
        found: dict[int, list[float]] = {}
        for lines in self.seeds:
            for line in lines:
                review, others = line.get("grad_norm_review"), line.get("grad_norm_others")
                if review is not None and others:
                    found.setdefault(line["epoch"], []).append(review / others)
        return dict(sorted(found.items()))

    def review_epochs(self) -> list[int]:
        """Return the epochs that reviewed, in any seed."""
        return sorted({line["epoch"] for lines in self.seeds for line in lines if "review" in line.get("phase", "")})


def curves(arm: str, history: Sequence[Line]) -> Curves:
    """Split the history of a trial by seed."""
    seeds = sorted({line["seed"] for line in history})
    return Curves(arm, [[line for line in history if line["seed"] == seed] for seed in seeds])


def accuracy_metric(arms: Sequence[Curves]) -> str | None:
    """Return what to draw: validation accuracy, else test accuracy; None where neither was followed over epochs."""
    return next((key for key in ("val_top1", "test_top1") if any(len(arm.values(key)) > 1 for arm in arms)), None)


def accuracy(arms: Sequence[Curves], metric: str) -> go.Figure:
    """Draw the mean over seeds by epoch with its 95 % interval from three seeds on, review epochs marked.

    The view opens on what comes after the first quarter of the training, where arms differ.
    """
    figure = _figure(f"{_words(metric)} (%)", 420)
    for index, arm in enumerate(arms):
        values = arm.values(metric)
        if values:
            _add_band(figure, values, index)
            _add_mean(figure, values, index, arm.arm)
            reviewed = {epoch: values[epoch] for epoch in arm.review_epochs() if epoch in values}
            _add_reviews(figure, reviewed, index, arm.arm)
    figure.update_yaxes(range=_late_range([arm.values(metric) for arm in arms]))
    return _with_legend(figure, len(arms))


@dataclass(frozen=True)
class Pair:
    """Two arms that differ in the sequence alone: their histories, and their common place in the colors."""

    increment: Curves
    feature_map: Curves

    def differences(self, metric: str) -> dict[int, list[float]]:
        """Return epoch -> increment less feature map, for each seed that measured both."""
        theirs = _by_seed(self.feature_map, metric)
        found: dict[int, list[float]] = {}
        for key, value in _by_seed(self.increment, metric).items():
            if key in theirs:
                found.setdefault(key[1], []).append(value - theirs[key])
        return dict(sorted(found.items()))


def _by_seed(arm: Curves, metric: str) -> dict[tuple[int, int], float]:
    return {
        (line["seed"], line["epoch"]): line[metric]
        for lines in arm.seeds
        for line in lines
        if line.get(metric) is not None
    }


def sequences(pairs: Sequence[Pair], metric: str) -> go.Figure:
    """Draw increments (solid) and feature maps (dashed) of each pair in one color, with intervals."""
    figure = _figure(f"{_words(metric)} (%)", 340)
    drawn = [(index, arm, dash) for index, pair in enumerate(pairs) for arm, dash in _dashed(pair)]
    for index, arm, dash in drawn:
        values = arm.values(metric)
        if values:
            _add_band(figure, values, index)
            _add_mean(figure, values, index, arm.arm, dash=dash)
    figure.update_yaxes(range=_late_range([arm.values(metric) for _, arm, _ in drawn]))
    return _with_legend(figure, len(drawn))


def _dashed(pair: Pair) -> list[tuple[Curves, str]]:
    return [(pair.increment, "solid"), (pair.feature_map, "dash")]


def sequence_differences(pairs: Sequence[Pair], metric: str, margin: float | None) -> go.Figure:
    """Draw increment less feature map by epoch, paired by seed, with its 95 % interval and the margin's band."""
    figure = _figure("difference (points)", 340)
    if margin:
        figure.add_hrect(y0=-margin, y1=margin, fillcolor=GRID, line_width=0, layer="below")
    figure.add_hline(y=0, line={"color": GRAY, "width": 1})
    for index, pair in enumerate(pairs):
        values = pair.differences(metric)
        if values:
            _add_band(figure, values, index)
            _add_mean(figure, values, index, pair.increment.arm)
    figure.update_yaxes(range=_late_range([pair.differences(metric) for pair in pairs]))
    return _with_legend(figure, len(pairs))


@dataclass(frozen=True)
class Telemetry:
    """One measure of the reviews: its title, what it means and its figure."""

    name: str
    title: str
    caption: str
    figure: go.Figure


MEASURES = (
    ("review_loss", "Review loss", "L_ST before λ, at the first batch of each review; logarithmic.", True),
    ("teacher_gap", "Gap to the teacher", "Mean absolute increment: how far the maps are from the teacher's.", False),
    (
        "ratio",
        "Gradient of the review",
        "Its norm on the student over that of all other losses; logarithmic, the dotted line is 1 %.",
        True,
    ),
    ("grad_cosine_review", "Agreement with the task", "Cosine of the review's gradient and the task's.", False),
)


def telemetry(arms: Sequence[Curves]) -> list[Telemetry]:
    """Draw what the reviews showed, by review epoch: mean over seeds; measures that nobody has are left out."""
    return [
        Telemetry(key, title, caption, _measure(key, [(arm, _values(arm, key)) for arm in arms], logarithmic))
        for key, title, caption, logarithmic in MEASURES
        if any(_values(arm, key) for arm in arms)
    ]


def gaps(arms: Sequence[Curves]) -> go.Figure | None:
    """Draw L_ST (solid) and the gap to the teacher (dotted) of each arm over its reviews, relative to the first one.

    The axis is logarithmic, so that a fall by half looks the same in both. None where no arm
    measured both in two reviews.
    """
    figure = _figure("relative to the first review", 340)
    for index, arm in enumerate(arms):
        loss, gap = (relative(arm.values(key)) for key in ("review_loss", "teacher_gap"))
        if len(loss) > 1 and gap:
            for values, dash, what in ((loss, "solid", "L_ST"), (gap, "dot", "gap")):
                _add_mean(figure, values, index, f"{arm.arm}: {what}", mode="lines+markers", dash=dash)
    if not figure.data:
        return None
    figure.update_yaxes(type="log", exponentformat="power")
    figure.add_hline(y=1, line={"color": GRAY, "dash": "dot", "width": 1})
    figure.update_layout(showlegend=False)
    return figure


def relative(values: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    """Return each epoch's mean over that of the first; empty where the first is zero."""
    means = {epoch: statistics.fmean(found) for epoch, found in values.items()}
    first = next(iter(means.values()), 0.0)
    return {epoch: [mean / first] for epoch, mean in means.items()} if first else {}


def response(found: Response, along: Literal["k", "delta"], title: str) -> go.Figure:
    """Draw the headline along k or delta, a line for each value of the other, with 95 % intervals from three seeds on.

    The number at a point counts its reviews; dotted lines join points that review as often.
    """
    other = "delta" if along == "k" else "k"
    figure = _figure(title, 320)
    for points in found.matched().values():
        _add_matched(figure, sorted(points, key=lambda point: int(getattr(point, along))), along)
    for index, (value, points) in enumerate(found.lines(along).items()):
        _add_line(figure, points, along, index, f"{BY_K_OR_DELTA[other]} = {value}")
    values = sorted({getattr(point, along) for point in found.points})
    room = 0.12 * (values[-1] - values[0])
    figure.update_xaxes(
        title={"text": BY_K_OR_DELTA[along]},
        tickmode="array",
        tickvals=values,
        rangemode="normal",
        range=[values[0] - room, values[-1] + room],
    )
    figure.update_layout(hovermode="closest")
    return _with_legend(figure, len(found.lines(along)))


def _add_matched(figure: go.Figure, points: Sequence[Point], along: str) -> None:
    figure.add_scatter(
        x=[getattr(point, along) for point in points],
        y=[point.mean for point in points],
        mode="lines",
        line={"color": GRAY, "width": 1.5, "dash": "dot"},
        showlegend=False,
        hoverinfo="skip",
    )


def _add_line(figure: go.Figure, points: Sequence[Point], along: str, index: int, name: str) -> None:
    figure.add_scatter(
        x=[getattr(point, along) for point in points],
        y=[point.mean for point in points],
        error_y=_errors(
            [point.mean for point in points],
            [point.interval if point.n >= LEAST_BAND else None for point in points],
        ),
        name=name,
        mode="lines+markers+text",
        text=[str(point.reviews) for point in points],
        textposition="top right",
        line={"color": _color(index), "width": 2},
        marker={"color": _color(index), "size": 8},
        customdata=[[_text(point.arm), point.reviews, point.n] for point in points],
        hovertemplate="%{customdata[0]}<br>%{y:.2f}, %{customdata[1]} reviews, %{customdata[2]} seeds<extra></extra>",
    )


def _errors(means: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> dict[str, Any]:
    """Return plotly's error bars; a point without an interval has bars of no length."""
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
    """A point beside its cost: its label, both values, the first one's interval, and its number on the front.

    ``cost`` is in seconds or bytes, or in the unit of a metric.
    """

    arm: str
    cost: float
    value: float
    interval: tuple[float, float] | None
    front: int | None


def costs(points: Sequence[Costed], title: str, cost: str, *, joined: bool = True) -> go.Figure:
    """Draw a metric against a cost; what is on the Pareto front is numbered, and joined where two objectives make it.

    Args:
        points: at least one.
        title: the metric's.
        cost: ``seconds``, ``memory``, or the title of what else stands along.
        joined: whether the front is a line in this plane.
    """
    figure = _figure(title, 380)
    axis, size = _cost_axis(cost, max(point.cost for point in points))
    front = sorted((point for point in points if point.front), key=lambda point: point.front or 0)
    rest = [point for point in points if not point.front]
    for group, color, mode, name in (
        (rest, GRAY, "markers", "beaten"),
        (front, COLORS[0], "lines+markers+text" if joined else "markers+text", "Pareto front"),
    ):
        if group:
            _add_costs(figure, group, size, {"color": color, "mode": mode, "name": name})
    wide = 0 < 10 * min(point.cost for point in points) < max(point.cost for point in points)
    figure.update_xaxes(title={"text": axis}, rangemode="normal", type="log" if wide else "linear")
    figure.update_layout(hovermode="closest")
    return _with_legend(figure, 2)


def _add_costs(figure: go.Figure, points: Sequence[Costed], size: float, look: Mapping[str, str]) -> None:
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
        customdata=[_text(point.arm) for point in points],
        hovertemplate="%{customdata}<br>%{y:.2f} at %{x:.3g}<extra></extra>",
    )


def _cost_axis(cost: str, largest: float) -> tuple[str, float]:
    """Return the title of the axis of a cost with its unit, and the size of the unit."""
    if cost == "memory":
        return "peak memory (MiB)", 2.0**20
    if cost != "seconds":
        return cost, 1.0
    unit, size = ("h", 3600.0) if largest >= 3600 else ("min", 60.0) if largest >= 60 else ("s", 1.0)
    return f"training of a seed, without evaluation ({unit})", size


@dataclass(frozen=True)
class Shares:
    """How much each parameter matters: two measures of each, as shares that sum to 1."""

    parameters: Sequence[str]
    fanova: Sequence[float]
    ped_anova: Sequence[float]


def shares(found: Shares) -> go.Figure:
    """Draw the shares of each parameter as two bars, the largest on top."""
    figure = _figure("", 80 + 40 * len(found.parameters))
    names = [_text(name) for name in found.parameters]
    for values, color, name in (
        (found.fanova, COLORS[0], "of the variance (fANOVA)"),
        (found.ped_anova, COLORS[1], "of what sets the best apart (PED-ANOVA)"),
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
    return _with_legend(figure, 2)


def sliced(found: Slice, title: str) -> go.Figure:
    """Draw the headline of every trial against one parameter."""
    figure = _figure(title, 260)
    figure.add_scatter(
        x=list(found.values),
        y=list(found.means),
        mode="markers",
        marker={"color": COLORS[0], "size": 8, "opacity": 0.7},
        customdata=[_text(arm) for arm in found.arms],
        hovertemplate="%{customdata}<br>%{y:.2f}<extra></extra>",
        showlegend=False,
    )
    kind = "category" if not found.is_number else "log" if found.is_wide else "linear"
    figure.update_xaxes(title={"text": _text(found.parameter)}, type=kind, rangemode="normal")
    figure.update_layout(hovermode="closest")
    return figure


def as_html(figure: go.Figure, name: str) -> str:
    """Return a figure as a ``div`` with a fixed id and its script; plotly itself is inlined once by the page."""
    text: str = plotly.io.to_html(
        figure,
        include_plotlyjs=False,
        full_html=False,
        div_id=f"figure-{name}",
        config={"responsive": True, "displayModeBar": False},
    )
    return text


def _text(label: str) -> str:
    """Return a label as text for plotly, which reads some tags and knows no ``&quot;``."""
    return html.escape(label, quote=False)


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("top", "top-")


def _values(arm: Curves, key: str) -> dict[int, list[float]]:
    return arm.ratio() if key == "ratio" else arm.values(key)


def _late_range(arms: Sequence[Mapping[int, Sequence[float]]]) -> list[float]:
    late = [value for values in arms for epoch, found in values.items() if epoch >= max(values) / 4 for value in found]
    if not late:
        return [-1.0, 1.0]
    margin = 0.04 * (max(late) - min(late)) or 1.0
    return [min(late) - margin, max(late) + margin]


def _measure(key: str, arms: Sequence[tuple[Curves, dict[int, list[float]]]], logarithmic: bool) -> go.Figure:
    figure = _figure(None, 260)
    for index, (arm, values) in enumerate(arms):
        if values:
            _add_mean(figure, values, index, arm.arm, mode="lines+markers")
    if logarithmic:
        figure.update_yaxes(type="log", exponentformat="power")
    if key == "ratio":
        figure.add_hline(y=FAINT, line={"color": GRAY, "dash": "dot", "width": 1})
    figure.update_layout(showlegend=False)
    return figure


def _figure(y_title: str | None, height: int) -> go.Figure:
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


def _with_legend(figure: go.Figure, entries: int) -> go.Figure:
    """Make room below the title of the x axis for a legend, an entry a row as on a phone."""
    height = figure.layout.height
    figure.update_layout(height=height + LEGEND_ROW * entries, legend={"y": -LEGEND_DROP / (height - LEGEND_DROP)})
    return figure


def _add_mean(
    figure: go.Figure,
    values: Mapping[int, Sequence[float]],
    index: int,
    arm: str,
    *,
    mode: str = "lines",
    dash: str | None = None,
) -> None:
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=_text(arm),
        legendgroup=str(index),
        mode=mode,
        line={"color": _color(index), "width": 2, "dash": dash or _dash(index)},
        marker={"color": _color(index), "size": 6},
        hovertemplate="%{y:.4g}",
    )


def _add_band(figure: go.Figure, values: Mapping[int, Sequence[float]], index: int) -> None:
    """Shade the 95 % interval of the mean; of fewer than three seeds it would hide everything else."""
    bands = {epoch: band(found) for epoch, found in values.items() if len(found) >= LEAST_BAND}
    if not bands:
        return
    epochs = list(bands)
    figure.add_scatter(
        x=epochs + epochs[::-1],
        y=[high for _, high in bands.values()] + [low for low, _ in bands.values()][::-1],
        fill="toself",
        fillcolor=_color(index),
        opacity=0.16,
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


def _add_reviews(figure: go.Figure, values: Mapping[int, Sequence[float]], index: int, arm: str) -> None:
    if not values:
        return
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=f"{_text(arm)}, review",
        legendgroup=str(index),
        showlegend=False,
        mode="markers",
        marker={"color": _color(index), "size": 9, "symbol": "diamond"},
        hoverinfo="skip",
    )


def look(index: int) -> dict[str, str]:
    """Return the color of an arm by its place, and CSS's word for its dashes."""
    styles = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "double"}
    return {"color": _color(index), "style": styles[_dash(index)]}


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def _dash(index: int) -> str:
    return DASHES[index // len(COLORS) % len(DASHES)]
