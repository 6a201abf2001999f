"""Points that a search tries first: the paper's setting, or a list.

Each search parameter takes the paper's value. Values that the sweep's file fixes stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from tskd_tune.documents import DOMAINS
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.experiment import Experiment
from tskd_tune.plain import Document
from tskd_tune.sweeps.space.domains import ARM, Hole, Picked
from tskd_tune.sweeps.space.search_space import SearchSpace

Start = Literal["paper"] | list[Document]
Values = dict[str, Picked]
# The sweep gives these keys of the paper's experiment; the preset `paper` gives all other keys.
QUESTION: Final = ("task", "student", "teacher")
ABSENT: Final = object()


def starting_points(space: SearchSpace, start: Start | None) -> list[Values]:
    """Return the points to begin with: search parameter -> label of a choice, or number of a range.

    A point of a list may leave out search parameters; the searcher draws their values.

    Raises:
        InputError: a domain does not contain the given value, there is no such search parameter, or a point that
            leaves nothing to draw is listed twice.
    """
    if start is None:
        return []
    if start == "paper":
        return [_of_the_paper(space)]
    points = [point_of(space, point, f"search.start: point {place}") for place, point in enumerate(start)]
    for place, point in enumerate(points):
        if point in points[:place] and _is_whole(space, point):
            raise InputError(f"search.start: point {place} is point {points.index(point)} again; keep one of them")
    return points


def _is_whole(space: SearchSpace, point: Values) -> bool:
    """Tell whether a point has every search parameter that there is where its choices are as they are."""
    return all(
        hole.name in point for hole in space.holes() if all(point.get(name) == label for name, label in hole.condition)
    )


def _of_the_paper(space: SearchSpace) -> Values:
    reference = _reference(space)
    values: Values = {}

    def pick(hole: Hole) -> Picked:
        wanted = _lookup(reference, _path(hole))
        values[hole.name] = _fitting(hole, wanted)
        return values[hole.name]

    space.sample(pick)
    return values


def _reference(space: SearchSpace) -> dict[str, object]:
    """Return the paper's experiment on the first task, student and teacher of the space, as plain data."""
    first = Experiment.read(next(iter(space.corners())).experiment).plain()
    question = {key: first[key] for key in QUESTION if first[key] is not None}
    try:
        return Experiment.read({**question, "preset": "paper"}).plain()
    except InputError as error:
        raise InputError(
            f"search.start: 'paper' has the paper's review, which this experiment cannot have ({error}); leave"
            " search.start out, or list points"
        ) from error


def _path(hole: Hole) -> str:
    """Return the path of a search parameter in an experiment: its name without the labels of the branches."""
    path = hole.name.removeprefix(ARM).lstrip(".") if _is_arm(hole.name) else hole.name
    for name, label in reversed(hole.condition):
        base = name.removeprefix(ARM).lstrip(".") if _is_arm(name) else name
        branch = f"{base}.{label}" if base else label
        if path == branch or path.startswith(f"{branch}."):
            path = f"{base}.{path.removeprefix(branch).lstrip('.')}".strip(".")
    return path


def _is_arm(name: str) -> bool:
    return name == ARM or name.startswith(f"{ARM}.")


def _lookup(value: object, path: str) -> object:
    for key in path.split(".") if path else []:
        if isinstance(value, Mapping):
            value = value.get(key, ABSENT)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return ABSENT
    return value


def _fitting(hole: Hole, wanted: object) -> Picked:
    """Return the value of a search parameter that is the paper's value."""
    if hole.is_range:
        if (number := _number(hole, wanted)) is not None:
            return number
    else:
        label = next((label for label in hole.labels if _fits(hole.branches[label], wanted)), None)
        if label is not None:
            return label
    paper = "has nothing there" if wanted is ABSENT else f"has {_short(wanted)}"
    raise InputError(
        f"search.start: {hole.name} is {_domain(hole)}, but the paper {paper}; widen its range, or list the points"
        " to start from"
    )


def _fits(content: object, wanted: object) -> bool:
    """Return whether the content of a branch, including its domains, can become the paper's value."""
    if isinstance(content, Hole):
        return (
            _number(content, wanted) is not None
            if content.is_range
            else any(_fits(b, wanted) for b in content.branches.values())
        )
    if isinstance(content, Mapping):
        return _fits_mapping(content, wanted)
    if isinstance(content, list):
        return isinstance(wanted, list) and len(content) == len(wanted) and all(map(_fits, content, wanted))
    if isinstance(wanted, Mapping) and isinstance(content, str):
        return _same(content, wanted.get("name"))
    return _same(content, wanted)


def _fits_mapping(content: Mapping[str, object], wanted: object) -> bool:
    holes = [inner for key, inner in content.items() if key in DOMAINS and isinstance(inner, Hole)]
    beside = {key: inner for key, inner in content.items() if not isinstance(inner, Hole)}
    if holes and not _fits(holes[0], wanted):
        return False
    if not isinstance(wanted, Mapping):
        return bool(holes) and not beside
    return all(key in wanted and _fits(inner, wanted[key]) for key, inner in beside.items())


def point_of(space: SearchSpace, point: Mapping[str, object], where: str) -> Values:
    """Return a point, which may leave out search parameters, as a searcher names its values.

    Args:
        space: the space.
        point: search parameter -> value, or label of a branch.
        where: the beginning of an error.

    Raises:
        InputError: a domain does not contain the value, or there is no such search parameter.
    """
    names = [hole.name for hole in space.holes()]
    for name in point:
        if name not in names:
            raise InputError(f"{where}: there is no search parameter '{name}'{did_you_mean(name, names)}")
    values = {hole.name: _asked(hole, point[hole.name], where) for hole in space.holes() if hole.name in point}
    for hole in space.holes():
        for name, label in hole.condition if hole.name in values else ():
            if values.get(name) != label:
                raise InputError(f"{where}: {hole.name} is used only where {name} is {label}; give {name} too")
    return values


def _asked(hole: Hole, value: object, where: str) -> Picked:
    """Return a value as the searcher names it: the number of a range, or the label of a choice."""
    if hole.is_range and (number := _number(hole, value)) is not None:
        return number
    for label in hole.labels:
        if value == label or (not hole.labelled and _same(hole.branches[label], value)):
            return label
    raise InputError(f"{where}: {hole.name} is {_domain(hole)}, which does not hold {value!r}")


def _number(hole: Hole, value: object) -> float | None:
    """Return a value as a number of a range; None if the range does not hold the value."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not hole.low <= value <= hole.high:
        return None
    if hole.kind != "int":
        return float(value)
    return int(value) if (value - hole.low) % hole.step == 0 else None


def _same(one: object, other: object) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _domain(hole: Hole) -> str:
    if not hole.is_range:
        return f"a {hole.kind} of {_listed(hole.labels)}"
    ends = [hole.low, hole.high, *([hole.step] if hole.step != 1 else [])]
    return f"{hole.kind} {[int(end) if hole.kind == 'int' else end for end in ends]}"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels)


def _short(value: object) -> str:
    return str(value["name"]) if isinstance(value, Mapping) and "name" in value else str(value)
