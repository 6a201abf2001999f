"""Points of a search space: experiments with a value in place of each domain, and with a label for tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tskd_tune.documents import DOMAINS, merge
from tskd_tune.sweeps.space.domains import Hole, Pick, is_arm

FIXED = "fixed"


@dataclass(frozen=True)
class Point:
    """One point of a search space.

    Attributes:
        values: search parameter -> drawn value, for the parameters that this point has. A branch is given by its label.
        experiment: the experiment with the drawn values, as plain data.
        label: a short name for tables, ``tskd, k=9``.
    """

    values: dict[str, object]
    experiment: dict[str, object]
    label: str


@dataclass(frozen=True)
class Draw:
    """The drawn value of a search parameter, for tables (a branch by its label) and as text for the point's label."""

    name: str
    value: object
    text: str


def _split(value: Mapping[str, object]) -> tuple[Hole | None, dict[str, object]]:
    """Split a mapping into the `Hole` of its domain, if it has one, and its other keys."""
    hole = next((inner for key, inner in value.items() if key in DOMAINS and isinstance(inner, Hole)), None)
    return hole, {key: inner for key, inner in value.items() if inner is not hole}


def _branch(hole: Hole, beside: Mapping[str, object], label: str) -> object:
    """Return the value of a label, merged into the keys beside the choice."""
    branch = hole.branches[label]
    return merge(beside, branch) if beside and isinstance(branch, Mapping) else branch


def filled(experiment: Mapping[str, object], pick: Pick, drawn: list[Draw]) -> dict[str, object]:
    """Return an experiment with a picked value for each search parameter; each draw is appended to ``drawn``."""
    found = _fill(experiment, pick, drawn)
    assert isinstance(found, dict)
    return found


def _fill(value: object, pick: Pick, drawn: list[Draw]) -> object:
    if isinstance(value, list):
        return [_fill(item, pick, drawn) for item in value]
    if not isinstance(value, Mapping):
        return value
    hole, beside = _split(value)
    if hole is None:
        return {key: _fill(inner, pick, drawn) for key, inner in value.items()}
    picked = pick(hole)
    if hole.is_range:
        drawn.append(Draw(hole.name, picked, f"{picked:.4g}" if isinstance(picked, float) else str(picked)))
        return picked
    label = str(picked)
    drawn.append(Draw(hole.name, label if hole.labelled else hole.branches[label], label))
    return _fill(_branch(hole, beside, label), pick, drawn)


def size_of(value: object, count: Callable[[Hole], int | None]) -> int | None:
    """Count the points that `filled` can draw below a value; ``count`` returns the number of values of a range."""
    if isinstance(value, list):
        return _product_of(size_of(item, count) for item in value)
    if not isinstance(value, Mapping):
        return 1
    hole, beside = _split(value)
    if hole is None:
        return _product_of(size_of(inner, count) for inner in value.values())
    if hole.is_range:
        return count(hole)
    sizes = [size_of(_branch(hole, beside, label), count) for label in hole.labels]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _product_of(sizes: Iterable[int | None]) -> int | None:
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


def label_of(drawn: Sequence[Draw]) -> str:
    """Return the label of a point: its arm, and the drawn value of every other search parameter."""
    if not drawn:
        return FIXED
    arm = [draw.text for draw in drawn if is_arm(draw.name)]
    others = [draw for draw in drawn if not is_arm(draw.name)]
    names = [draw.name for draw in others]
    return ", ".join([*arm, *(f"{_short(draw.name, names)}={draw.text}" for draw in others)])


def _short(name: str, names: Sequence[str]) -> str:
    """Return the shortest end of a dotted name that is not the end of another name."""
    parts = name.split(".")
    ends = (".".join(parts[-length:]) for length in range(1, len(parts)))
    others = [f".{other}" for other in names if other != name]
    return next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), name)
