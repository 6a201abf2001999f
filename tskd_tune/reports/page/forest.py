"""The layout of a family's differences: one strip per contrast, all on one scale; a forest plot without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tskd_tune.reports.judge.records import Finding

FARTHEST = 4.0
MOST_TICKS = 6


@dataclass(frozen=True)
class Tick:
    """A value on the axis: its place in percent of the width, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Strip:
    """The places of a contrast's difference and interval, in percent of the width; None where missing.

    ``cut_low`` and ``cut_high`` tell whether the interval continues beyond the scale.
    """

    dot: float | None
    low: float | None
    high: float | None
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True)
class Forest:
    """The strips of a family, and their common band of the margin, line at difference 0, and ticks."""

    strips: tuple[Strip, ...]
    zero: float
    band_low: float
    band_high: float
    ticks: tuple[Tick, ...]


def forest(findings: Sequence[Finding], margin: float | None) -> Forest:
    """Lay out a family's findings in the given order. Without a margin the band has width 0.

    The scale contains every difference, the margin on both sides and the intervals. The scale ends at four times the
    largest difference or margin, because otherwise the wide interval of two seeds would leave no room for the others.
    """
    ends = [_ends(finding) for finding in findings]
    dots = [finding.contrast.difference for finding in findings]
    known = [dot for dot in dots if dot is not None]
    margin = margin or 0.0
    farthest = FARTHEST * max([margin, *map(abs, known)])
    known += [max(-farthest, min(farthest, end)) for pair in ends if pair for end in pair]
    room = 0.05 * (max([margin, *known]) - min([-margin, *known])) or 1.0
    low, high = min([-margin, *known]) - room, max([margin, *known]) + room

    scale = _Scale(low, high)
    return Forest(
        strips=tuple(_strip(dot, pair, scale) for dot, pair in zip(dots, ends, strict=True)),
        zero=scale.at(0.0),
        band_low=scale.at(-margin),
        band_high=scale.at(margin),
        ticks=tuple(Tick(scale.at(value), text) for value, text in ticks(low, high)),
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the place of a value, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return at most six round values within a range, with texts; with zero where the range contains zero."""
    rough = (high - low) / MOST_TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    numbers = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [(number * step, f"{number * step:+.{digits}f}" if number else "0") for number in numbers]


def _ends(finding: Finding) -> tuple[float, float] | None:
    interval = finding.evidence.interval
    return (interval.low, interval.high) if interval else None


def _strip(dot: float | None, ends: tuple[float, float] | None, scale: _Scale) -> Strip:
    place = None if dot is None else scale.at(dot)
    if ends is None:
        return Strip(place, None, None)
    low, high = ends
    return Strip(
        place,
        scale.at(max(low, scale.low)),
        scale.at(min(high, scale.high)),
        low < scale.low,
        high > scale.high,
    )
