"""Effects of single options: k and delta, searched parameters, the sequence; and whether L_ST fell but not the gap.

The functions use only a summary, its resolved experiments and the histories. They give no verdicts.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.scale import cut

LEAST_REVIEWS = 3
FALLEN = 0.5
FLAT = 0.9
WIDE = 20

Along: TypeAlias = Literal["k", "delta"]


# k and delta


@dataclass(frozen=True)
class Point:
    """One arm of a group of arms that differ only in k and delta.

    ``mean`` is the mean of the headline over ``n`` seeds. ``interval`` is the 95 % interval of the mean; None where
    there is no interval. ``reviews`` is the number of review epochs of a run.
    """

    arm: str
    k: int
    delta: int
    reviews: int
    n: int
    mean: float
    interval: tuple[float, float] | None

    def at(self, along: Along) -> int:
        """Return k or delta."""
        return self.k if along == "k" else self.delta


@dataclass(frozen=True)
class Response:
    """Arms that differ only in k and delta, sorted by k and then by delta."""

    points: tuple[Point, ...]

    @property
    def varied(self) -> list[Along]:
        """Which of k and delta have more than one value."""
        names: tuple[Along, ...] = ("k", "delta")
        return [name for name in names if len({point.at(name) for point in self.points}) > 1]

    def lines(self, along: Along) -> dict[int, list[Point]]:
        """Return the points in the order of ``along`` (k or delta), for each value of the other option."""
        other: Along = "delta" if along == "k" else "k"
        return {
            value: sorted((point for point in self.points if point.at(other) == value), key=lambda one: one.at(along))
            for value in sorted({point.at(other) for point in self.points})
        }

    def matched(self) -> dict[int, list[Point]]:
        """Return number of reviews -> the points with this number that differ in k and in delta."""
        found: dict[int, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.reviews, []).append(point)
        return {
            reviews: points
            for reviews, points in sorted(found.items())
            if len({point.k for point in points}) > 1 and len({point.delta for point in points}) > 1
        }


def responses(arms: Sequence[ArmFindings]) -> list[Response]:
    """Gather the arms that differ only in k and delta, without groups of a single point."""
    groups: dict[str, list[Point]] = {}
    for arm in arms:
        if arm.review and arm.headline.mean is not None:
            groups.setdefault(_all_but(arm, "k", "delta"), []).append(_point(arm, arm.headline.mean))
    made = [Response(tuple(sorted(points, key=lambda point: (point.k, point.delta)))) for points in groups.values()]
    return [response for response in made if response.varied]


def _point(arm: ArmFindings, mean: float) -> Point:
    k, delta = arm.review["k"], arm.review["delta"]
    if not isinstance(k, int) or not isinstance(delta, int):
        raise InputError(f"{arm.arm}: review.k and review.delta must be whole numbers, got {k!r} and {delta!r}")
    return Point(arm.arm, k, delta, arm.reviews, arm.headline.n, mean, interval(arm))


def interval(arm: ArmFindings) -> tuple[float, float] | None:
    """Return the 95 % interval of an arm's headline; None without one. For a percentage, cut it at 0 and 100 %."""
    found = arm.statistics.interval
    if found is None:
        return None
    return cut(found.low, found.high) if arm.beyond else (found.low, found.high)


def _all_but(arm: ArmFindings, *options: str) -> str:
    """Return an arm's experiment as text, without the seed and these options of the review."""
    review = {name: value for name, value in arm.review.items() if name not in options}
    rest = {name: value for name, value in arm.experiment.items() if name != "seed"}
    return json.dumps(rest | {"review": review}, sort_keys=True)


# The trials of a search


@dataclass(frozen=True)
class Slice:
    """One searched parameter, and the headline (mean over seeds) of every trial that has this parameter."""

    parameter: str
    arms: tuple[str, ...]
    values: tuple[Json, ...]
    means: tuple[float, ...]

    @property
    def numbers(self) -> list[float] | None:
        """The values as numbers; None where a value is a label."""
        found = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        return found if len(found) == len(self.values) else None

    @property
    def is_wide(self) -> bool:
        """Whether the values are positive and span more than an order of magnitude."""
        numbers = self.numbers
        return numbers is not None and 0 < WIDE * min(numbers) < max(numbers)


def slices(arms: Sequence[ArmFindings]) -> list[Slice]:
    """Return the headline against each searched parameter that has two or more values."""
    known = [(arm, arm.headline.mean) for arm in arms if arm.headline.mean is not None]
    found = []
    for parameter in sorted({name for arm, _ in known for name in arm.point}):
        having = [(arm, mean) for arm, mean in known if parameter in arm.point]
        values = tuple(arm.point[parameter] for arm, _ in having)
        if len({str(value) for value in values}) > 1:
            found.append(
                Slice(parameter, tuple(arm.arm for arm, _ in having), values, tuple(mean for _, mean in having))
            )
    return found


# Sequences


@dataclass(frozen=True)
class SequencePair:
    """The indices of two arms that differ only in the reviewed sequence."""

    increment: int
    feature_map: int


def sequence_pairs(arms: Sequence[ArmFindings]) -> list[SequencePair]:
    """Pair each arm that reviews increments with the arm that reviews feature maps and is otherwise the same."""
    found: dict[tuple[str, str], int] = {}
    for index, arm in enumerate(arms):
        if arm.review:
            found.setdefault((_all_but(arm, "sequence"), str(arm.review.get("sequence", ""))), index)
    return [
        SequencePair(index, found[rest, "feature_map"])
        for (rest, sequence), index in found.items()
        if sequence == "increment" and (rest, "feature_map") in found
    ]


# L_ST falls and the gap to the teacher stays


@dataclass(frozen=True)
class GapChange:
    """The change of an arm's L_ST and of its gap to the teacher, from the first third of the reviews to the last third.

    ``loss`` and ``gap`` are ratios: the mean over the last third of the reviews divided by the mean over the first
    third; median over seeds. The method fails where L_ST falls and the gap stays (see `failed`). ``shown`` is the
    number of seeds, of ``seeds``, in which the method fails. ``unit`` is ``training`` under several teachers.
    """

    arm: str
    seeds: int
    reviews: int
    loss: float
    gap: float
    shown: int
    unit: str = "seed"

    @property
    def failed(self) -> bool:
        """Whether L_ST fell to half or less while the gap kept nine tenths or more."""
        return _failed(self.loss, self.gap)

    @property
    def sentence(self) -> str:
        """The two ratios, and whether the method failed, in words."""
        third = max(1, self.reviews // 3)
        part = "the first review to the last" if third == 1 else f"the first {third} reviews to the last {third}"
        seeds = f"one {self.unit}" if self.seeds == 1 else f"median of {self.seeds} {self.unit}s"
        seen = (
            f"'{self.arm}': from {part} of {self.reviews}, L_ST went to {_percent(self.loss)} of what it was "
            f"and the gap to the teacher to {_percent(self.gap)} ({seeds})."
        )
        if not self.failed:
            return f"{seen} {self._partly()}"
        of = f"in the only {self.unit}" if self.seeds == 1 else f"in {self.shown} of {self.seeds} {self.unit}s"
        return f"{seen} L_ST fell but the gap stayed: the extractors learned, the student did not ({of})."

    def _partly(self) -> str:
        some = (
            f", although L_ST fell and the gap stayed in {self.shown} of {self.seeds} {self.unit}s"
            if self.shown
            else ""
        )
        return f"No sign that the method fails{some}."


def gap_change(arm: str, seeds: Sequence[Sequence[HistoryLine]], unit: str = "seed") -> GapChange | None:
    """Test in the review epochs of an arm, seed by seed, whether L_ST falls while the gap to the teacher stays.

    L_ST is a squared distance, and the gap is an absolute distance. If the prediction is zero and the gap goes to 90 %,
    L_ST goes to about 81 %. If L_ST goes to 50 % or less while the gap stays at 90 % or more, only the extractor can be
    the cause.

    Args:
        arm: the arm's label.
        seeds: the history of each seed, by epoch; only the seeds with the most reviews count.
        unit: what a list of ``seeds`` is: a ``seed``, or a ``training`` under several teachers.

    Returns:
        The changes of both; None where no seed has both in three review epochs.
    """
    measured = [seed for lines in seeds if (seed := _measured(lines)) and seed[0][0] > 0 and seed[0][1] > 0]
    reviews = max(map(len, measured), default=0)
    if reviews < LEAST_REVIEWS:
        return None
    ratios = [(_ratio([loss for loss, _ in seed]), _ratio([gap for _, gap in seed])) for seed in measured]
    whole = [ratio for ratio, seed in zip(ratios, measured, strict=True) if len(seed) == reviews]
    loss, gap = (statistics.median(column) for column in zip(*whole, strict=True))
    return GapChange(arm, len(whole), reviews, loss, gap, sum(_failed(*ratio) for ratio in whole), unit)


def _measured(lines: Sequence[HistoryLine]) -> list[tuple[float, float]]:
    pairs = [(line.number("review_loss"), line.number("teacher_gap")) for line in lines]
    return [(loss, gap) for loss, gap in pairs if loss is not None and gap is not None]


def _ratio(values: Sequence[float]) -> float:
    third = max(1, len(values) // 3)
    return statistics.fmean(values[-third:]) / statistics.fmean(values[:third])


def _failed(loss: float, gap: float) -> bool:
    return loss <= FALLEN and gap >= FLAT


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.3g} %"
