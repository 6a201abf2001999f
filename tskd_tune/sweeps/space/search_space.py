"""A search space is an experiment file in which some values are domains.

    k: {choice: [3, 6, 9]}                      one of these
    review: {choice: {none: null, tskd: {...}}} one of these branches, by their labels
    k: {grid: [3, 6, 9]}                        as choice, for the grid searcher only
    delta: {int: [1, 15]}                       an integer, both ends included; [low, high, step]
    momentum: {uniform: [0.8, 0.95]}            a number
    lambda: {loguniform: [0.1, 3000]}           a number, uniform in its logarithm

If a ``choice`` or ``grid`` stands beside other keys, the drawn branch is merged into these keys. At the root, the
branches are the arms of a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal

from pydantic import ValidationError

from tskd_tune.errors import InputError, sentences
from tskd_tune.places import Place, Places
from tskd_tune.sweeps.space.domains import ARM, Hole, Pick, Picked, holed_mapping, walk
from tskd_tune.sweeps.space.points import Draw, Point, filled, label_of, size_of

MOST_CORNERS = 500
MOST_POINTS = 10_000


class SearchSpace:
    """The search parameters of an experiment, and the points of the space."""

    def __init__(
        self, experiment: Mapping[str, object], arms: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        """Find the search parameters.

        Args:
            experiment: plain data with ``extends`` already resolved.
            arms: label -> a whole experiment; these are further points of a grid.

        Raises:
            InputError: a domain is malformed or stands in one of the arms, or two search parameters have one name.
        """
        self._holed: dict[str, object] = holed_mapping(experiment, "", ())
        self._holes = list(walk(self._holed))
        self._arms = [Point({ARM: label}, dict(arm), label) for label, arm in (arms or {}).items()]
        self._refuse_twins()
        self._refuse_holes_of_arms()

    def holes(self) -> list[Hole]:
        """Return every search parameter, including those in branches, in the order of the YAML."""
        return list(self._holes)

    def sample(self, pick: Pick) -> Point:
        """Pick the search parameters one after the other; those in a branch only if the branch was picked."""
        drawn: list[Draw] = []
        experiment = filled(self._holed, pick, drawn)
        return Point({draw.name: draw.value for draw in drawn}, experiment, label_of(drawn))

    def grid(self) -> list[Point]:
        """Return every combination of all choices, the last search parameter varying fastest; then the arms.

        Raises:
            InputError: the space has a range.
        """
        self.refuse("grid")
        size = self.size()
        if size is not None and size > MOST_POINTS:
            raise InputError(
                f"experiment: the grid has {size} points, but {MOST_POINTS} are the most; remove values, or use"
                " search: random"
            )
        points = list(self._product(lambda hole: list(hole.labels)))
        taken = {point.label for point in points}
        for arm in self._arms:
            if arm.label in taken:
                raise InputError(f"arms.{arm.label}: an arm of the space has this name too; rename this arm")
        return [*points, *self._arms]

    def size(self) -> int | None:
        """Return the number of points, or None if a range is continuous."""
        size = size_of(self._holed, Hole.count)
        return None if size is None else size + len(self._arms)

    def points(self) -> Iterator[Point]:
        """Iterate over every point of a space without a continuous range, the last search parameter fastest."""
        return chain(self._product(Hole.members), self._arms)

    def picks(self, point: Point) -> dict[str, Picked]:
        """Return the picks of a point by search parameter: the label of a choice, or the number of a range."""
        return {hole.name: hole.pick_of(point.values[hole.name]) for hole in self._holes if hole.name in point.values}

    def refuse(self, kind: Literal["grid", "search"]) -> None:
        """Refuse domains that a kind of searcher cannot take: ranges in a grid, ``grid`` and arms in a search.

        Raises:
            InputError: the space has such a domain.
        """
        if kind == "search" and self._arms:
            raise InputError(f"arms: {self._arms[0].label!r} needs 'search: {{name: grid}}'; a search draws its points")
        for hole in self._holes:
            if kind == "grid" and hole.is_range:
                raise InputError(
                    f"{hole.name}: the range '{hole.kind}' cannot be used in a grid; list its values with 'grid' or"
                    " 'choice', or search with optuna or random"
                )
            if kind == "search" and hole.kind == "grid":
                raise InputError(f"{hole.name}: 'grid' needs 'search: {{name: grid}}'; write 'choice' for a search")

    def corners(self) -> Iterator[Point]:
        """Iterate over every branch and both ends of every range.

        If there are at most 500 combinations of labels and ends, all are returned. In a larger space, each label and
        each end is returned once with all other search parameters at their first value, and once with all others at
        their last value. The arms come last.
        """
        size = size_of(self._holed, lambda hole: len(hole.extremes()))
        whole = size is not None and size <= MOST_CORNERS
        return chain(self._product(Hole.extremes) if whole else self._one_by_one(), self._arms)

    def check(self, validate: Callable[[dict[str, object]], object], places: Places | None = None) -> list[str]:
        """Validate the corners and return a sentence for each mistake, ``point 'tskd, k=9': ...``.

        If several points have the same mistake, the sentence names the first point and the number of the others.

        Args:
            validate: raises an error for an invalid experiment.
            places: the file and line of each value of the sweep, which the sentences then name.
        """
        where: dict[tuple[Place | None, str], list[str]] = {}
        for point in self.corners():
            for mistake in _mistakes(validate, point.experiment):
                place = places.find(mistake, set(map(str, point.values.values()))) if places is not None else None
                where.setdefault((place, mistake), []).append(point.label)
        labelled = bool(self._holes or self._arms)
        found = [(place, _sentence(of, mistake) if labelled else mistake) for (place, mistake), of in where.items()]
        return [sentence if place is None else f"{place}: {sentence}" for place, sentence in found]

    def _refuse_twins(self) -> None:
        names = [hole.name for hole in self._holes]
        twins = [name for name in names if names.count(name) > 1]
        if twins:
            raise InputError(f"{twins[0]}: two search parameters have this name; rename the branch or the key")

    def _refuse_holes_of_arms(self) -> None:
        for point in self._arms:
            hole = next(walk(holed_mapping(point.experiment, "", ())), None)
            if hole is not None:
                raise InputError(
                    f"arms.{point.label}: '{hole.name}' is a {hole.kind}, but an arm is one whole experiment;"
                    " write an arm for each value"
                )

    def _product(self, options: Callable[[Hole], Sequence[Picked]]) -> Iterator[Point]:
        """Enumerate all combinations, the last search parameter fastest.

        The parameters of a branch exist only while the branch is picked.
        """
        wheels: list[list[Picked]] = []
        while True:
            turning = iter(range(len(wheels)))

            def pick(hole: Hole, turning: Iterator[int] = turning) -> Picked:
                place = next(turning, None)
                if place is None:
                    wheels.append(list(options(hole)))
                    return wheels[-1][0]
                return wheels[place][0]

            yield self.sample(pick)
            while wheels and len(wheels[-1]) == 1:
                wheels.pop()
            if not wheels:
                return
            wheels[-1].pop(0)

    def _one_by_one(self) -> Iterator[Point]:
        seen: set[str] = set()
        for point in self._each_at_both_ends():
            if (values := repr(point.values)) not in seen:
                seen.add(values)
                yield point

    def _each_at_both_ends(self) -> Iterator[Point]:
        for hole in self._holes:
            for extreme in hole.extremes():
                forced = {**dict(hole.condition), hole.name: extreme}
                for end in (0, -1):
                    yield self.sample(lambda other: forced.get(other.name, other.extremes()[end]))  # noqa: B023


def _mistakes(validate: Callable[[dict[str, object]], object], experiment: dict[str, object]) -> list[str]:
    try:
        validate(experiment)
    except ValidationError as error:
        return sentences(error)
    except InputError as error:
        return str(error).splitlines()
    return []


def _sentence(labels: list[str], mistake: str) -> str:
    others = f" (and {len(labels) - 1} more)" if len(labels) > 1 else ""
    return f"point '{labels[0]}'{others}: {mistake}"
