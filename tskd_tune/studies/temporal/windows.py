"""Series of trainings, the windows that are cut from them, and the nulls; what is left out is counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine

Matrix: TypeAlias = NDArray[np.float64]
"""``[epochs, series]``."""

SHORTEST: Final = 10
"""The fewest values of a window."""
FLAT: Final = 1e-4
"""A window whose standard deviation is below this share of its largest value is constant."""

UNIT, PIXEL, PIXEL_PC, WEIGHT, WEIGHT_PC = "unit", "map pixel", "map component", "weight", "weight component"
SIGNALS: Final = (UNIT, PIXEL, PIXEL_PC, WEIGHT, WEIGHT_PC)
# Prefix of the names in a history -> the signal of single series, and that of their principal components.
_PREFIXES: Final = {"unit": (UNIT, None), "map": (PIXEL, PIXEL_PC), "weight": (WEIGHT, WEIGHT_PC)}
NULL_WALK, NULL_PERMUTED = "null: random walk", "null: permuted increments"

DEAD, CONSTANT, SHORT, BEYOND, BROKEN = (
    "dead: 0 in the whole window",
    "constant: standard deviation below 1e-4 of the largest value",
    "too short: fewer than 10 values up to the origin",
    "too short: fewer values after the origin than the horizon",
    "not finite: the training diverged or a value is missing",
)
SPARE = "not chosen: more series than the option `series`"
REASONS: Final = (DEAD, CONSTANT, SHORT, BEYOND, BROKEN, SPARE)


@dataclass(frozen=True)
class Recording:
    """The series of one training.

    Attributes:
        arm: the name of the configuration.
        seed: the seed of the training.
        signals: name in the history without its numbers (``unit``, ``map``, ``weight``) -> ``[epochs, series]``.
        rates: the learning rate of each epoch.
    """

    arm: str
    seed: int
    signals: Mapping[str, Matrix]
    rates: tuple[float, ...]


@dataclass(frozen=True, order=True)
class Cell:
    """What is forecast: a signal of a configuration, sampled every ``delta`` epochs, from one origin."""

    arm: str
    signal: str
    delta: int
    origin: int


@dataclass(frozen=True)
class Window:
    """One series around an origin, standardized by the mean and the standard deviation of its window.

    Attributes:
        cell: what is forecast.
        seed: the seed of the training.
        series: the number of the series in its signal.
        past: the values up to the origin.
        future: the values after it.
        drops: whether the learning rate changes after the origin.
    """

    cell: Cell
    seed: int
    series: int
    past: tuple[float, ...]
    future: tuple[float, ...]
    drops: bool = False


@dataclass(frozen=True)
class Cut:
    """How windows are cut.

    Attributes:
        window: the most values of a window.
        steps: the values after the origin, the largest horizon.
        series: the most series of one signal, training and origin.
        components: the number of principal components.
    """

    window: int
    steps: int
    series: int
    components: int


def recordings(folder: RunFolder) -> list[Recording]:
    """Read the series of a run, in the order of its rows; a training without an epoch has none."""
    found = []
    for row in folder.rows():
        lines = {line.epoch: line for line in folder.history(row.run) if line.seed == row.seed}
        if lines:
            found.append(_recording(row.arm, row.seed, [lines[epoch] for epoch in sorted(lines)]))
    return found


def _recording(arm: str, seed: int, lines: Sequence[HistoryLine]) -> Recording:
    signals = {}
    for prefix in _PREFIXES:
        # The order of the names in the history, which is that of samples, units and pixels.
        names = [name for name in lines[0].numbers if re.fullmatch(rf"{prefix}(_\d+)+", name)]
        if names:
            rows = [[_number(line, name) for name in names] for line in lines]
            signals[prefix] = np.array(rows, dtype=np.float64)
    return Recording(arm, seed, signals, tuple(_number(line, "lr") for line in lines))


def _number(line: HistoryLine, name: str) -> float:
    value = line.number(name)
    return float("nan") if value is None else value


def windows(
    recording: Recording, delta: int, origin: int, cut: Cut, left: Counter[tuple[str, str, str]]
) -> list[Window]:
    """Cut the windows of all signals of a training at an origin, and count in ``left`` what is left out, and why.

    Args:
        recording: the training.
        delta: epochs between values.
        origin: the number of epochs that are known.
        cut: how windows are cut.
        left: (arm, signal, reason) -> the number of series.
    """
    found: list[Window] = []
    for prefix, matrix in recording.signals.items():
        single, principal = _PREFIXES[prefix]
        known = _known(matrix, delta, origin, cut)
        signals = {single: known}
        if principal is not None:
            signals[principal] = _components(known, cut)
        for signal, series in signals.items():
            cell = Cell(recording.arm, signal, delta, origin)
            whole = _refused(series, cut, cell, left)
            places = _sound(series, cut, cell, left) if whole is None else []
            if len(places) > cut.series:
                left[cell.arm, cell.signal, SPARE] += len(places) - cut.series
            drops = len(set(recording.rates[origin - 1 : origin + delta * cut.steps])) > 1
            found += [
                Window(cell, recording.seed, place, *_standardized(series[:, place], cut.steps), drops)
                for place in _chosen(places, cut)
            ]
    return found


def _known(matrix: Matrix, delta: int, origin: int, cut: Cut) -> Matrix:
    """Return the rows up to the origin, at most a window of them, and the rows after it, every ``delta`` epochs."""
    past = matrix[:origin][::-1][::delta][::-1][-cut.window :]
    return (
        np.concatenate([past, matrix[origin + delta - 1 :: delta][: cut.steps]])
        if len(matrix) >= origin
        else matrix[:0]
    )


def _refused(series: Matrix, cut: Cut, cell: Cell, left: Counter[tuple[str, str, str]]) -> str | None:
    """Count the series of a signal that are too short, and return why; None if they are long enough."""
    past = min(cut.window, -(-cell.origin // cell.delta))
    if past >= SHORTEST and len(series) == past + cut.steps:
        return None
    reason = SHORT if past < SHORTEST else BEYOND
    left[cell.arm, cell.signal, reason] += series.shape[1]
    return reason


def _sound(series: Matrix, cut: Cut, cell: Cell, left: Counter[tuple[str, str, str]]) -> list[int]:
    """Return the series that are finite and not constant in their window, and count the others; no future is used."""
    past = series[: -cut.steps]
    places = []
    for place in range(series.shape[1]):
        values = past[:, place]
        if not np.isfinite(series[:, place]).all():
            left[cell.arm, cell.signal, BROKEN] += 1
        elif not values.any():
            left[cell.arm, cell.signal, DEAD] += 1
        elif values.std() < FLAT * np.abs(values).max():
            left[cell.arm, cell.signal, CONSTANT] += 1
        else:
            places.append(place)
    return places


def _chosen(places: Sequence[int], cut: Cut) -> list[int]:
    """Return at most so many series, evenly over all of them, so that no sample is preferred."""
    if len(places) <= cut.series:
        return list(places)
    return [places[number * len(places) // cut.series] for number in range(cut.series)]


def _components(known: Matrix, cut: Cut) -> Matrix:
    """Project all rows on the principal components of the rows of the window, so that no future is used."""
    past = known[: -cut.steps]
    if len(past) < 2 or not np.isfinite(known).all():
        return np.full((len(known), cut.components), np.nan)
    _, _, directions = np.linalg.svd(past - past.mean(0), full_matrices=False)
    projected: Matrix = (known - past.mean(0)) @ directions[: cut.components].T
    return projected


def _standardized(values: Matrix, steps: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return past and future of a series ``[n]``, both by the mean and the standard deviation of the past."""
    past = values[:-steps]
    scaled = (values - past.mean()) / past.std()
    return tuple(scaled[:-steps].tolist()), tuple(scaled[-steps:].tolist())


def random_walks(seed: int, origin: int, cut: Cut) -> list[Window]:
    """Return random walks, whose best forecast is the last value."""
    generator = np.random.default_rng([seed, 0])
    length = min(cut.window, origin) + cut.steps
    walks = generator.standard_normal((length, cut.series)).cumsum(0)
    cell = Cell(NULL_WALK, "walk", 1, origin)
    return [Window(cell, seed, place, *_standardized(walks[:, place], cut.steps)) for place in range(cut.series)]


def permuted(whole: Sequence[Window]) -> Iterator[Window]:
    """Yield the windows with their increments in a random order, past and future together: no time is left in them."""
    for window in whole:
        values = np.array([*window.past, *window.future])
        generator = np.random.default_rng([window.seed, window.series, 1])
        steps = generator.permutation(np.diff(values))
        series = np.concatenate([values[:1], values[0] + steps.cumsum()])
        past = series[: len(window.past)]
        if past.std() >= FLAT * np.abs(past).max():
            given = window.cell
            cell = Cell(f"{NULL_PERMUTED} of {given.arm}", given.signal, given.delta, given.origin)
            yield Window(cell, window.seed, window.series, *_standardized(series, len(window.future)))
