"""A search space is an experiment with holes: the same YAML, in which some values are domains.

    k: {choice: [3, 6, 9]}                      one of these
    review: {choice: {none: null, tskd: {...}}} one of these branches, by their labels
    k: {grid: [3, 6, 9]}                        as choice, for the grid searcher only
    delta: {int: [1, 15]}                       an integer, both ends included; [low, high, step]
    momentum: {uniform: [0.8, 0.95]}            a number
    lambda: {loguniform: [0.1, 3000]}           a number, uniform in its logarithm

A ``choice`` or ``grid`` that stands beside other keys is drawn and merged into them; at the root these are the
arms of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from tskd_tune.documents import DOMAINS, RANGES, merge
from tskd_tune.errors import InputError, did_you_mean, sentences, shown
from tskd_tune.places import Place, Places

Kind = Literal["choice", "grid", "int", "uniform", "loguniform"]
ARM = "arm"
FIXED = "fixed"
MOST_CORNERS = 500
MOST_POINTS, MOST_LABELS, LONGEST_LABEL = 10_000, 10_000, 100
Conditions: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Hole:
    """One value that is searched.

    Attributes:
        name: the dotted path, with the label of every branch on the way: ``review.tskd.k``; ``arm`` at the root.
        kind: the word of its domain.
        labels: what a choice or a grid draws from, as text; empty for a range.
        labelled: whether the labels were given, as the keys of a mapping, or are the values themselves.
        low: the low end of a range, which is included.
        high: the high end of a range, which is included.
        step: from one integer to the next.
        condition: the label of every enclosing choice that makes this hole appear, outermost first.
        branches: what each label stands for, with its own holes.
    """

    name: str
    kind: Kind
    condition: Conditions = ()
    labels: tuple[str, ...] = ()
    labelled: bool = False
    low: float = 0
    high: float = 0
    step: int = 1
    branches: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_range(self) -> bool:
        """Whether it draws a number between two ends, and not one of several labels."""
        return self.kind in RANGES

    def extremes(self) -> list[Any]:
        """Return every label, or the ends of a range; the last integer is the last that a step reaches."""
        if not self.is_range:
            return list(self.labels)
        last = self.low + (self.high - self.low) // self.step * self.step if self.kind == "int" else self.high
        return list(dict.fromkeys([self.low, last]))

    def members(self) -> Sequence[Any]:
        """Return every label, or every integer of a range that is not continuous."""
        return range(int(self.low), int(self.high) + 1, self.step) if self.kind == "int" else self.labels

    def pick_of(self, value: Any) -> Any:
        """Return the label that stands for a value of a point; a number of a range stands for itself."""
        if self.is_range or self.labelled:
            return value
        return next(label for label, inner in self.branches.items() if (type(inner), inner) == (type(value), value))

    def count(self) -> int | None:
        """Return how many values a range has; None if it is continuous."""
        return int((self.high - self.low) // self.step) + 1 if self.kind == "int" else None


@dataclass(frozen=True)
class Point:
    """One point of a search space.

    Attributes:
        values: what was drawn, by hole; only the holes that this point has. A branch goes by its label.
        experiment: the experiment with its holes filled, as plain data.
        label: a short name for tables, ``tskd, k=9``.
    """

    values: dict[str, Any]
    experiment: dict[str, Any]
    label: str


@dataclass(frozen=True)
class _Draw:
    """What was drawn for a hole, as it enters tables (a branch by its label) and as it reads in a point's label."""

    name: str
    value: Any
    text: str


Pick: TypeAlias = Callable[[Hole], Any]
"""Draws a label of a choice or a grid, a number of a range."""


class SearchSpace:
    """The holes of an experiment, and the points that fill them."""

    def __init__(self, experiment: Mapping[str, Any], arms: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Find the holes.

        Args:
            experiment: plain data with ``extends`` already resolved.
            arms: label -> a whole experiment, further points of a grid beside those of the holes.

        Raises:
            InputError: a domain is malformed or stands in one of the arms, or two holes go by one name.
        """
        self._holed: dict[str, Any] = _holed_mapping(experiment, "", ())
        self._holes = list(_walk(self._holed))
        self._arms = [Point({ARM: label}, dict(arm), label) for label, arm in (arms or {}).items()]
        self._refuse_twins()
        self._refuse_holes_of_arms()

    def holes(self) -> list[Hole]:
        """Return every hole, also those of branches, in the order of the YAML."""
        return list(self._holes)

    def sample(self, pick: Pick) -> Point:
        """Fill the holes one after the other; a hole in a branch is picked only where its branch was."""
        drawn: list[_Draw] = []
        experiment = _fill(self._holed, pick, drawn)
        return Point({draw.name: draw.value for draw in drawn}, experiment, _label(drawn))

    def grid(self) -> list[Point]:
        """Return the exact product of all choices, the last hole varying fastest.

        Raises:
            InputError: the space has a range.
        """
        self.refuse("grid")
        size = self.size()
        if size is not None and size > MOST_POINTS:
            raise InputError(
                f"experiment: the grid has {size} points, but {MOST_POINTS} are the most; take values out, or search"
            )
        points = list(self._product(lambda hole: list(hole.labels)))
        taken = {point.label for point in points}
        for arm in self._arms:
            if arm.label in taken:
                raise InputError(f"arms.{arm.label}: an arm of the space goes by this name; rename this one")
        return [*points, *self._arms]

    def size(self) -> int | None:
        """Return the number of points, or None where a hole is continuous."""
        size = _size(self._holed, Hole.count)
        return None if size is None else size + len(self._arms)

    def points(self) -> Iterator[Point]:
        """Walk over every point of a space without a continuous range, the last hole varying fastest."""
        return chain(self._product(Hole.members), self._arms)

    def picks(self, point: Point) -> dict[str, Any]:
        """Return what was picked for each hole of a point: the label of a choice, the number of a range."""
        return {hole.name: hole.pick_of(point.values[hole.name]) for hole in self._holes if hole.name in point.values}

    def refuse(self, kind: Literal["grid", "search"]) -> None:
        """Refuse domains that a kind of searcher cannot take: ranges in a grid, ``grid`` outside of it.

        Raises:
            InputError: the space has such a domain.
        """
        if kind == "search" and self._arms:
            raise InputError(f"arms: {self._arms[0].label!r} needs 'search: {{name: grid}}'; a search draws its points")
        for hole in self._holes:
            if kind == "grid" and hole.is_range:
                raise InputError(
                    f"{hole.name}: the range '{hole.kind}' has no place in a grid;"
                    " list its values with 'grid' or 'choice', or search with optuna or random"
                )
            if kind == "search" and hole.kind == "grid":
                raise InputError(f"{hole.name}: 'grid' needs 'search: {{name: grid}}'; write 'choice' for a search")

    def corners(self) -> Iterator[Point]:
        """Walk over every branch and both ends of every range.

        Up to 500 points this is the whole product of labels and ends. A larger space is walked hole by hole: each
        label and end once with everything else at its first value, and once with everything else at its last. The
        arms beside the space come last.
        """
        size = _size(self._holed, lambda hole: len(hole.extremes()))
        whole = size is not None and size <= MOST_CORNERS
        return chain(self._product(Hole.extremes) if whole else self._one_by_one(), self._arms)

    def check(self, validate: Callable[[dict[str, Any]], Any], places: Places | None = None) -> list[str]:
        """Validate the corners and return a sentence a mistake, ``point 'tskd, k=9': ...``; no sentence is good.

        A mistake of several points is told of the first, with the number of the others.

        Args:
            validate: refuses a point's experiment.
            places: where the values of the sweep stand, which sentences then name.
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
            raise InputError(f"{twins[0]}: two domains go by this name; rename the branch or the key")

    def _refuse_holes_of_arms(self) -> None:
        for point in self._arms:
            hole = next(_walk(_holed_mapping(point.experiment, "", ())), None)
            if hole is not None:
                raise InputError(
                    f"arms.{point.label}: '{hole.name}' is a {hole.kind}, but an arm is one whole experiment;"
                    " write an arm for each value"
                )

    def _product(self, options: Callable[[Hole], Sequence[Any]]) -> Iterator[Point]:
        """Walk like an odometer; which wheels there are depends on what those before them show."""
        wheels: list[list[Any]] = []
        while True:
            turning = iter(range(len(wheels)))

            def pick(hole: Hole, turning: Iterator[int] = turning) -> Any:
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


def _holed_mapping(value: Mapping[str, Any], path: str, condition: Conditions) -> dict[str, Any]:
    """Copy a mapping with the content of every domain replaced by its hole."""
    word = _domain_word(value, path)
    return {
        key: _hole(key, inner, path, condition) if key == word else _holed(inner, _join(path, key), condition)
        for key, inner in value.items()
    }


def _holed(value: Any, path: str, condition: Conditions) -> Any:
    if isinstance(value, Mapping):
        return _holed_mapping(value, path, condition)
    if isinstance(value, list):
        return [_holed(item, _join(path, str(place)), condition) for place, item in enumerate(value)]
    return value


def _domain_word(value: Mapping[str, Any], path: str) -> str | None:
    words = [key for key in value if key in DOMAINS]
    where = path or "the experiment"
    if len(words) > 1:
        raise InputError(f"{where}: has both '{words[0]}' and '{words[1]}'; keep one of them")
    if not words:
        _refuse_slip(value, where)
        return None
    if words[0] in RANGES and len(value) > 1:
        other = next(key for key in value if key != words[0])
        raise InputError(f"{where}: the range '{words[0]}' stands beside '{other}'; a range stands alone")
    if path == "seed":
        raise InputError("seed: is not searched, every point is trained once a seed; list them under 'seeds'")
    return words[0]


def _refuse_slip(value: Mapping[str, Any], where: str) -> None:
    """Refuse a mapping like ``{logunifrom: [1, 2]}``, which would otherwise be taken for options."""
    if len(value) != 1:
        return
    key, content = next(iter(value.items()))
    words = DOMAINS if isinstance(content, list) else ("choice", "grid") if isinstance(content, Mapping) else ()
    if get_close_matches(key, words, n=1, cutoff=0.8):
        raise InputError(f"{where}: '{key}' is not a domain{did_you_mean(key, DOMAINS)}")


def _hole(word: str, content: Any, path: str, condition: Conditions) -> Hole:
    name = _hole_name(path, condition)
    if word in RANGES and _is_arm(name):
        raise InputError(f"{name}: the range '{word}' stands for a whole experiment; put it under the key of a number")
    if word in RANGES:
        return _range(word, content, name, condition)
    if not isinstance(content, Mapping | list) or not content:
        raise InputError(
            f"{name}: '{word}' needs a list of values or a mapping of labelled branches, got {shown(content)}"
        )
    if len(content) > MOST_LABELS:
        raise InputError(f"{name}: '{word}' has {len(content)} values, but {MOST_LABELS} are the most; give a range")
    labelled = isinstance(content, Mapping)
    given = content if isinstance(content, Mapping) else _labels_of(content, name, word)
    for label in given:
        _refuse_label(label, name)
    if name != path:
        _refuse_arms_without_keys(given)
    branches = {
        label: _holed(branch, _join(path, label), (*condition, (name, label))) for label, branch in given.items()
    }
    kind: Kind = "grid" if word == "grid" else "choice"
    return Hole(name, kind, condition, tuple(branches), labelled, branches=branches)


def _refuse_label(label: str, name: str) -> None:
    """Refuse what cannot stand in a table or on a line as the name of an arm."""
    slip = None
    if not label.strip() or label != label.strip():
        slip = "is empty, or begins or ends with a space"
    elif not label.isprintable():
        slip = "holds the end of a line or another character without a picture"
    elif len(label) > LONGEST_LABEL:
        slip = f"has {len(label)} characters of at most {LONGEST_LABEL}"
    if slip is not None:
        raise InputError(f"{name}: the label {shown(label)} {slip}; write choice: {{label: value}} with a short label")


def _hole_name(path: str, condition: Conditions) -> str:
    """Return the path of a hole; ``arm`` at the root, and ``arm.<labels>`` at the root of a branch of the arms."""
    if path == ".".join(label for name, label in condition if _is_arm(name)):
        return f"{ARM}.{path}" if path else ARM
    return path


def _is_arm(name: str) -> bool:
    return name == ARM or name.startswith(f"{ARM}.")


def _labels_of(values: list[Any], name: str, word: str) -> dict[str, Any]:
    """Label plain values with their own text, as YAML writes it."""
    labels: dict[str, Any] = {}
    for value in values:
        if isinstance(value, Mapping | list):
            raise InputError(
                f"{name}: '{word}' lists {shown(value)}, which needs a label; write {word}:"
                f" {{label: {shown(value)}, ...}}"
            )
        label = _text(value)
        if label in labels:
            raise InputError(f"{name}: '{word}' lists {label} twice; keep one of them")
        labels[label] = value
    return labels


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _refuse_arms_without_keys(arms: Mapping[str, Any]) -> None:
    for label, branch in arms.items():
        if not isinstance(branch, Mapping):
            raise InputError(
                f"{ARM}: the branch '{label}' of the experiment must be a mapping of its keys, got {shown(branch)};"
                " write {} for nothing"
            )


def _range(word: str, content: Any, name: str, condition: Conditions) -> Hole:
    most = 3 if word == "int" else 2
    if not isinstance(content, list) or not 2 <= len(content) <= most or not all(map(_is_number, content)):
        form = "[low, high] or [low, high, step]" if word == "int" else "[low, high]"
        raise InputError(f"{name}: '{word}' needs {form} as numbers, got {shown(content)}")
    low, high, step = [*content, 1][:3]
    if word == "int" and not all(isinstance(number, int) for number in content):
        raise InputError(f"{name}: 'int' needs integers, got {shown(content)}")
    if low >= high:
        raise InputError(f"{name}: '{word}' needs low < high, got {shown(content)}")
    if step <= 0:
        raise InputError(f"{name}: 'int' needs a step from 1 up, got {shown(content)}")
    if word == "int" and step > high - low:
        raise InputError(
            f"{name}: the step {step} is wider than the range from {low} to {high}, which leaves one value; lower the"
            " step"
        )
    if word == "uniform" and not math.isfinite(high - low):
        raise InputError(f"{name}: the range {shown(content)} is wider than a float; bring its ends together")
    if word == "loguniform" and low <= 0:
        raise InputError(
            f"{name}: 'loguniform' needs low > 0, got {shown(content)}; use 'uniform' for a range that holds 0"
        )
    if word == "int":
        return Hole(name, "int", condition, low=low, high=high, step=step)
    return Hole(name, "uniform" if word == "uniform" else "loguniform", condition, low=float(low), high=float(high))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _walk(value: Any) -> Iterator[Hole]:
    if isinstance(value, Hole):
        yield value
        for branch in value.branches.values():
            yield from _walk(branch)
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _walk(inner)


def _split(value: Mapping[str, Any]) -> tuple[Hole | None, dict[str, Any]]:
    """Part a mapping into the hole of its domain, if it has one, and the keys beside it."""
    hole = next((inner for key, inner in value.items() if key in DOMAINS and isinstance(inner, Hole)), None)
    return hole, {key: inner for key, inner in value.items() if inner is not hole}


def _branch(hole: Hole, beside: dict[str, Any], label: str) -> Any:
    """Return what a label stands for, merged into the keys beside the choice."""
    branch = hole.branches[label]
    return merge(beside, branch) if beside and isinstance(branch, Mapping) else branch


def _fill(value: Any, pick: Pick, drawn: list[_Draw]) -> Any:
    if isinstance(value, list):
        return [_fill(item, pick, drawn) for item in value]
    if not isinstance(value, Mapping):
        return value
    hole, beside = _split(value)
    if hole is None:
        return {key: _fill(inner, pick, drawn) for key, inner in value.items()}
    picked = pick(hole)
    if hole.is_range:
        drawn.append(_Draw(hole.name, picked, f"{picked:.4g}" if isinstance(picked, float) else str(picked)))
        return picked
    drawn.append(_Draw(hole.name, picked if hole.labelled else hole.branches[picked], picked))
    return _fill(_branch(hole, beside, picked), pick, drawn)


def _size(value: Any, count: Callable[[Hole], int | None]) -> int | None:
    """Count the points below a value, as `_fill` would draw them; ``count`` is asked for ranges."""
    if isinstance(value, list):
        return _product_of(_size(item, count) for item in value)
    if not isinstance(value, Mapping):
        return 1
    hole, beside = _split(value)
    if hole is None:
        return _product_of(_size(inner, count) for inner in value.values())
    if hole.is_range:
        return count(hole)
    sizes = [_size(_branch(hole, beside, label), count) for label in hole.labels]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _product_of(sizes: Iterator[int | None]) -> int | None:
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


def _label(drawn: Sequence[_Draw]) -> str:
    if not drawn:
        return FIXED
    arm = [draw.text for draw in drawn if _is_arm(draw.name)]
    others = [draw for draw in drawn if not _is_arm(draw.name)]
    names = [draw.name for draw in others]
    return ", ".join([*arm, *(f"{_short(draw.name, names)}={draw.text}" for draw in others)])


def _short(name: str, names: Sequence[str]) -> str:
    """Return the shortest end of a dotted name that no other name has."""
    parts = name.split(".")
    ends = (".".join(parts[-length:]) for length in range(1, len(parts)))
    others = [f".{other}" for other in names if other != name]
    return next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), name)


def _mistakes(validate: Callable[[dict[str, Any]], Any], experiment: dict[str, Any]) -> list[str]:
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
