"""The figures of a report: accuracy over epochs, and what the reviews showed, from histories alone.

Figures have no background and gray lettering, so that they stand on light and on dark pages alike.
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import plotly.io

COLORS = ("#2f7ed8", "#d9822b", "#2a9d70", "#c94f5b", "#8a6fc4", "#2aa3b8", "#a8892c", "#b9608f")
DASHES = ("solid", "dash", "dot", "dashdot")
GRAY = "#7b7b7b"
GRID = "rgba(128,128,128,0.22)"
MOST_ARMS = 8
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
    """Draw the mean over seeds by epoch with the range from worst to best seed, review epochs marked.

    The view opens on what comes after the first quarter of the training, where arms differ.
    """
    figure = _figure(f"{metric.replace('_', ' ').replace('top', 'top-')} (%)", 420)
    for index, arm in enumerate(arms):
        values = arm.values(metric)
        if values:
            _add_band(figure, values, index)
            _add_mean(figure, values, index, arm.arm)
            reviewed = {epoch: values[epoch] for epoch in arm.review_epochs() if epoch in values}
            _add_reviews(figure, reviewed, index, arm.arm)
    figure.update_yaxes(range=_late_range([arm.values(metric) for arm in arms]))
    return figure


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


def _values(arm: Curves, key: str) -> dict[int, list[float]]:
    return arm.ratio() if key == "ratio" else arm.values(key)


def _late_range(arms: Sequence[Mapping[int, Sequence[float]]]) -> list[float]:
    late = [value for values in arms for epoch, found in values.items() if epoch >= max(values) / 4 for value in found]
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


def _add_mean(
    figure: go.Figure, values: Mapping[int, Sequence[float]], index: int, arm: str, mode: str = "lines"
) -> None:
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=html.escape(arm),
        legendgroup=str(index),
        mode=mode,
        line={"color": _color(index), "width": 2, "dash": DASHES[index // len(COLORS) % len(DASHES)]},
        marker={"color": _color(index), "size": 6},
        hovertemplate="%{y:.4g}",
    )


def _add_band(figure: go.Figure, values: Mapping[int, Sequence[float]], index: int) -> None:
    if max(map(len, values.values())) < 2:
        return
    epochs = list(values)
    figure.add_scatter(
        x=epochs + epochs[::-1],
        y=[max(found) for found in values.values()] + [min(found) for found in values.values()][::-1],
        fill="toself",
        fillcolor=_color(index),
        opacity=0.16,
        line={"width": 0},
        mode="lines",
        legendgroup=str(index),
        showlegend=False,
        hoverinfo="skip",
    )


def _add_reviews(figure: go.Figure, values: Mapping[int, Sequence[float]], index: int, arm: str) -> None:
    if not values:
        return
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=f"{html.escape(arm)}, review",
        legendgroup=str(index),
        showlegend=False,
        mode="markers",
        marker={"color": _color(index), "size": 9, "symbol": "diamond"},
        hoverinfo="skip",
    )


def _color(index: int) -> str:
    return COLORS[index % len(COLORS)]
