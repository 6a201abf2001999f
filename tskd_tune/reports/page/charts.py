"""The figures of histories: accuracy over epochs, increments against feature maps, and the measures of the reviews."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from tskd_tune.metrics import Metric
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.judge.words import unit_of_differences
from tskd_tune.reports.page import figures

FAINT = 0.01
# OPENS: the figure first shows the epochs after this share of the training. ROOM: the room above and below the means.
# EDGE: the room after the last epoch. ROOM and EDGE are shares of the ranges of the axes.
OPENS, ROOM, EDGE = 0.5, 0.15, 0.02


@dataclass(frozen=True)
class Curves:
    """The histories of one arm.

    Attributes:
        arm: the label.
        seeds: one list of lines per seed, by epoch; under several teachers, one per seed and teacher.
        teachers: the seed of the teacher of each list; None where the arm has no several.
    """

    arm: str
    seeds: Sequence[Sequence[HistoryLine]]
    teachers: Sequence[int | None]

    def values(self, key: str) -> dict[int, list[float]]:
        """Return epoch -> the values of a metric over seeds, for the epochs in which the metric was measured."""
        found: dict[int, list[float]] = {}
        for lines in self.seeds:
            for line in lines:
                if (value := line.number(key)) is not None:
                    found.setdefault(line.epoch, []).append(value)
        return dict(sorted(found.items()))

    def ratio(self) -> dict[int, list[float]]:
        """Return epoch -> the norm of the review's gradient divided by that of all other losses' gradient, by seed."""
        found: dict[int, list[float]] = {}
        for lines in self.seeds:
            for line in lines:
                review, others = line.number("grad_norm_review"), line.number("grad_norm_others")
                if review is not None and others:
                    found.setdefault(line.epoch, []).append(review / others)
        return dict(sorted(found.items()))

    def review_epochs(self) -> list[int]:
        """Return the epochs in which any seed had a review."""
        return sorted({line.epoch for lines in self.seeds for line in lines if "review" in (line.phase or "")})


def curves(arm: str, histories: Sequence[tuple[int | None, Sequence[HistoryLine]]]) -> Curves:
    """Split the histories of an arm's trials, each with the seed of its teacher or None, by seed and teacher."""
    found: dict[tuple[int, int], list[HistoryLine]] = {}
    teachers: dict[tuple[int, int], int | None] = {}
    for teacher, history in histories:
        for line in history:
            key = line.seed, -1 if teacher is None else teacher
            found.setdefault(key, []).append(line)
            teachers[key] = teacher
    keys = sorted(found)
    return Curves(arm, [found[key] for key in keys], [teachers[key] for key in keys])


@dataclass(frozen=True)
class Followed:
    """A metric of histories: its name in the histories, its heading with the unit, and its meaning."""

    name: str
    heading: str
    metric: Metric


def followed(arms: Sequence[Curves], names: Sequence[str]) -> str | None:
    """Return the first of these metrics that an arm measured in several epochs; None without such a metric."""
    return next((name for name in names if any(len(arm.values(name)) > 1 for arm in arms)), None)


def accuracy(arms: Sequence[Curves], drawn: Followed) -> go.Figure:
    """Draw the mean over seeds by epoch, with marked review epochs and, for at least three seeds, the 95 % interval.

    The figure first shows the last half of the training, where arms differ, and the range of the means.
    """
    metric = drawn.name
    figure = figures.blank(drawn.heading, 420)
    for index, arm in enumerate(arms):
        figures.add_band(figure, arm.values(metric), index, bounds=drawn.metric.bounds)
    for index, arm in enumerate(arms):
        values = arm.values(metric)
        if values:
            figures.add_mean(figure, values, index, arm.arm)
            reviewed = {epoch: values[epoch] for epoch in arm.review_epochs() if epoch in values}
            _add_reviews(figure, reviewed, index, arm.arm)
    _open_late(figure, [arm.values(metric) for arm in arms])
    return figures.with_legend(figure, len(arms))


@dataclass(frozen=True)
class Pair:
    """Two arms that differ only in the sequence: their histories, and the index of their common color."""

    increment: Curves
    feature_map: Curves

    def differences(self, metric: str) -> dict[int, list[float]]:
        """Return epoch -> increment minus feature map, for each seed and teacher that measured both."""
        theirs = _by_seed(self.feature_map, metric)
        found: dict[int, list[float]] = {}
        for key, value in _by_seed(self.increment, metric).items():
            if key in theirs:
                found.setdefault(key[2], []).append(value - theirs[key])
        return dict(sorted(found.items()))


def _by_seed(arm: Curves, metric: str) -> dict[tuple[int | None, int, int], float]:
    return {
        (teacher, line.seed, line.epoch): value
        for teacher, lines in zip(arm.teachers, arm.seeds, strict=True)
        for line in lines
        if (value := line.number(metric)) is not None
    }


def sequences(pairs: Sequence[Pair], shown: Followed) -> go.Figure:
    """Draw increments (solid) and feature maps (dashed) with intervals, each pair in one color."""
    metric = shown.name
    figure = figures.blank(shown.heading, 340)
    drawn = [(index, arm, dash) for index, pair in enumerate(pairs) for arm, dash in _dashed(pair)]
    for index, arm, _ in drawn:
        figures.add_band(figure, arm.values(metric), index, bounds=shown.metric.bounds)
    for index, arm, dash in drawn:
        values = arm.values(metric)
        if values:
            figures.add_mean(figure, values, index, arm.arm, dash=dash)
    _open_late(figure, [arm.values(metric) for _, arm, _ in drawn])
    return figures.with_legend(figure, len(drawn))


def _dashed(pair: Pair) -> list[tuple[Curves, str]]:
    return [(pair.increment, "solid"), (pair.feature_map, "dash")]


def sequence_differences(pairs: Sequence[Pair], shown: Followed, margin: float | None) -> go.Figure:
    """Draw increment minus feature map by epoch, paired by seed, with its 95 % interval and the margin's band."""
    metric, unit = shown.name, unit_of_differences(shown.metric)
    figure = figures.blank(f"difference ({unit})" if unit else "difference", 340)
    if margin:
        figure.add_hrect(y0=-margin, y1=margin, fillcolor=figures.GRID, line_width=0, layer="below")
    figure.add_hline(y=0, line={"color": figures.GRAY, "width": 1})
    for index, pair in enumerate(pairs):
        values = pair.differences(metric)
        if values:
            figures.add_band(figure, values, index)
            figures.add_mean(figure, values, index, pair.increment.arm)
    _open_late(figure, [pair.differences(metric) for pair in pairs])
    return figures.with_legend(figure, len(pairs))


@dataclass(frozen=True)
class Telemetry:
    """One measure of the reviews: its title, its meaning and its figure."""

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
    """Draw the measures of the reviews by review epoch, as means over seeds, without measures that no arm has."""
    return [
        Telemetry(key, title, caption, _measure(key, [(arm, _values(arm, key)) for arm in arms], logarithmic))
        for key, title, caption, logarithmic in MEASURES
        if any(_values(arm, key) for arm in arms)
    ]


def gaps(arms: Sequence[Curves]) -> go.Figure | None:
    """Draw L_ST (solid) and the gap to the teacher (dotted) of each arm over its reviews, relative to the first review.

    The axis is logarithmic, so a fall by half has the same height in both lines. None where no arm measured both in two
    reviews.
    """
    figure = figures.blank("relative to the first review", 340)
    for index, arm in enumerate(arms):
        loss, gap = (relative(arm.values(key)) for key in ("review_loss", "teacher_gap"))
        if len(loss) > 1 and gap:
            for values, dash, what in ((loss, "solid", "L_ST"), (gap, "dot", "gap")):
                figures.add_mean(figure, values, index, f"{arm.arm}: {what}", mode="lines+markers", dash=dash)
    if not figure.data:
        return None
    figure.update_yaxes(type="log", exponentformat="power")
    figure.add_hline(y=1, line={"color": figures.GRAY, "dash": "dot", "width": 1})
    figure.update_layout(showlegend=False)
    return figure


def relative(values: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    """Return each epoch's mean divided by the first epoch's mean; empty where the first mean is zero."""
    means = {epoch: statistics.fmean(found) for epoch, found in values.items()}
    first = next(iter(means.values()), 0.0)
    return {epoch: [mean / first] for epoch, mean in means.items()} if first else {}


def _values(arm: Curves, key: str) -> dict[int, list[float]]:
    return arm.ratio() if key == "ratio" else arm.values(key)


def _open_late(figure: go.Figure, arms: Sequence[Mapping[int, Sequence[float]]]) -> None:
    """Let the figure first show the means of the last half of the epochs with some room; wider bands are cut."""
    first = OPENS * max((max(values) for values in arms if values), default=0)
    late = {
        (place, epoch): statistics.fmean(found)
        for place, values in enumerate(arms)
        for epoch, found in values.items()
        if epoch >= first
    }
    if not late:
        return
    lowest, highest = min(late.values()), max(late.values())
    room = ROOM * (highest - lowest) or 1.0
    last = max(epoch for _, epoch in late)
    figure.update_yaxes(range=[lowest - room, highest + room])
    figure.update_xaxes(range=[first, last + EDGE * (last - first)], rangemode="normal")


def _measure(key: str, arms: Sequence[tuple[Curves, dict[int, list[float]]]], logarithmic: bool) -> go.Figure:
    figure = figures.blank(None, 260)
    for index, (arm, values) in enumerate(arms):
        if values:
            figures.add_mean(figure, values, index, arm.arm, mode="lines+markers")
    if logarithmic:
        figure.update_yaxes(type="log", exponentformat="power")
    if key == "ratio":
        figure.add_hline(y=FAINT, line={"color": figures.GRAY, "dash": "dot", "width": 1})
    figure.update_layout(showlegend=False)
    return figure


def _add_reviews(figure: go.Figure, values: Mapping[int, Sequence[float]], index: int, arm: str) -> None:
    if not values:
        return
    figure.add_scatter(
        x=list(values),
        y=[statistics.fmean(found) for found in values.values()],
        name=f"{figures.text(arm)}, review",
        legendgroup=str(index),
        showlegend=False,
        mode="markers",
        marker={"color": figures.color(index), "size": 9, "symbol": "diamond"},
        hoverinfo="skip",
    )
