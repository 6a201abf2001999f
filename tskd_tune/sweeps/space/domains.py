"""Finds and checks domains, the values of an experiment file that are searched.

A domain is a mapping with one of the words ``choice``, ``grid``, ``int``, ``uniform`` and ``loguniform``.
`tskd_tune.sweeps.space.search_space` says what each means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, TypeAlias
from unicodedata import normalize

from tskd_tune.documents import DOMAINS, RANGES
from tskd_tune.errors import InputError, did_you_mean, shown

Kind = Literal["choice", "grid", "int", "uniform", "loguniform"]
ARM = "arm"
MOST_LABELS, LONGEST_LABEL = 10_000, 100
Conditions: TypeAlias = tuple[tuple[str, str], ...]
Picked: TypeAlias = str | float
"""A label of a choice or a grid, or a number of a range."""


@dataclass(frozen=True)
class Hole:
    """A search parameter: one value of an experiment that is searched.

    Attributes:
        name: the dotted path, with the label of every branch on the way: ``review.tskd.k``; ``arm`` at the root.
        kind: the word of its domain.
        labels: the labels of a choice or a grid, as text; empty for a range.
        labelled: whether the labels were given as the keys of a mapping; otherwise the values are the labels.
        low: the low end of a range, which is included.
        high: the high end of a range, which is included.
        step: the difference from one integer to the next.
        condition: the name and the label of every enclosing choice, outermost first; the parameter exists only if all
            these labels are drawn.
        branches: label -> the value of the label, which may contain further search parameters.
    """

    name: str
    kind: Kind
    condition: Conditions = ()
    labels: tuple[str, ...] = ()
    labelled: bool = False
    low: float = 0
    high: float = 0
    step: int = 1
    branches: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_range(self) -> bool:
        """Whether the parameter is a number between two ends; otherwise it is one of several labels."""
        return self.kind in RANGES

    def extremes(self) -> Sequence[Picked]:
        """Return every label, or both ends of a range; the upper end of ``int`` is the last integer in steps."""
        if not self.is_range:
            return list(self.labels)
        last = self.low + (self.high - self.low) // self.step * self.step if self.kind == "int" else self.high
        return list(dict.fromkeys([self.low, last]))

    def members(self) -> Sequence[Picked]:
        """Return every label, or every integer of a range of integers."""
        return self.numbers() if self.kind == "int" else self.labels

    def numbers(self) -> range:
        """Return the integers of a range of integers."""
        return range(int(self.low), int(self.high) + 1, self.step)

    def pick_of(self, value: object) -> Picked:
        """Return the label of a point's value; a number of a range is returned as it is."""
        if self.is_range or self.labelled:
            assert isinstance(value, str | int | float)
            return value
        return next(label for label, inner in self.branches.items() if (type(inner), inner) == (type(value), value))

    def count(self) -> int | None:
        """Return how many values a range has; None if it is continuous."""
        return int((self.high - self.low) // self.step) + 1 if self.kind == "int" else None


Pick: TypeAlias = Callable[[Hole], Picked]
"""Draws a label of a choice or a grid, or a number of a range."""


def holed_mapping(value: Mapping[str, object], path: str, condition: Conditions) -> dict[str, object]:
    """Copy a mapping, and replace the content of every domain by a `Hole`."""
    word = _domain_word(value, path)
    return {
        key: _hole(key, inner, path, condition) if key == word else _holed(inner, _join(path, key), condition)
        for key, inner in value.items()
    }


def _holed(value: object, path: str, condition: Conditions) -> object:
    if isinstance(value, Mapping):
        return holed_mapping(value, path, condition)
    if isinstance(value, list):
        return [_holed(item, _join(path, str(place)), condition) for place, item in enumerate(value)]
    return value


def _domain_word(value: Mapping[str, object], path: str) -> str | None:
    words = [key for key in value if key in DOMAINS]
    where = path or "the experiment"
    if len(words) > 1:
        raise InputError(f"{where}: has both '{words[0]}' and '{words[1]}'; keep one of them")
    if not words:
        _refuse_slip(value, where)
        return None
    if words[0] in RANGES and len(value) > 1:
        other = next(key for key in value if key != words[0])
        raise InputError(
            f"{where}: the range '{words[0]}' has a key beside it, '{other}'; a range must be the only key"
        )
    if path == "seed":
        raise InputError(
            "seed: cannot be searched, because every point is trained with every seed; list the seeds under 'seeds'"
        )
    return words[0]


def _refuse_slip(value: Mapping[str, object], where: str) -> None:
    """Refuse a mapping like ``{logunifrom: [1, 2]}``, which would otherwise be taken for options."""
    if len(value) != 1:
        return
    key, content = next(iter(value.items()))
    words = DOMAINS if isinstance(content, list) else ("choice", "grid") if isinstance(content, Mapping) else ()
    if get_close_matches(key, words, n=1, cutoff=0.8) or sorted(key) in map(sorted, words):
        raise InputError(f"{where}: '{key}' is no kind of search parameter{did_you_mean(key, DOMAINS)}")


def _hole(word: str, content: object, path: str, condition: Conditions) -> Hole:
    name = _hole_name(path, condition)
    if word in RANGES and is_arm(name):
        raise InputError(
            f"{name}: the range '{word}' cannot replace a whole experiment; put the range under the key of a number"
        )
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
    seen: dict[str, str] = {}
    for label in given:
        _refuse_label(label, name)
        other = seen.setdefault(normalize("NFC", label), label)
        if other != label:
            raise InputError(
                f"{name}: the labels {other!a} and {label!a} look the same, as Unicode can spell their letters in two"
                " ways; give one of them another name"
            )
    if name != path:
        _refuse_arms_without_keys(given)
    branches = {
        label: _holed(branch, _join(path, label), (*condition, (name, label))) for label, branch in given.items()
    }
    kind: Kind = "grid" if word == "grid" else "choice"
    return Hole(name, kind, condition, tuple(branches), labelled, branches=branches)


def _refuse_label(label: str, name: str) -> None:
    """Refuse a label that cannot be printed as the name of an arm in a table or on one line."""
    slip = None
    if not label.strip() or label != label.strip():
        slip = "is empty, or begins or ends with a space"
    elif not label.isprintable():
        slip = "contains a line break or another character that cannot be printed"
    elif len(label) > LONGEST_LABEL:
        slip = f"has {len(label)} characters of at most {LONGEST_LABEL}"
    if slip is not None:
        raise InputError(f"{name}: the label {shown(label)} {slip}; write choice: {{label: value}} with a short label")


def _hole_name(path: str, condition: Conditions) -> str:
    """Return the name of a search parameter: its path; ``arm`` or ``arm.<labels>`` at the root of the arms."""
    if path == ".".join(label for name, label in condition if is_arm(name)):
        return f"{ARM}.{path}" if path else ARM
    return path


def is_arm(name: str) -> bool:
    """Return whether a search parameter is at the root of the experiment, or at the root of a branch of the arms."""
    return name == ARM or name.startswith(f"{ARM}.")


def _labels_of(values: list[object], name: str, word: str) -> dict[str, object]:
    """Label plain values with their own text, as YAML writes it."""
    labels: dict[str, object] = {}
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


def _text(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _refuse_arms_without_keys(arms: Mapping[str, object]) -> None:
    for label, branch in arms.items():
        if not isinstance(branch, Mapping):
            raise InputError(
                f"{ARM}: the branch '{label}' of the experiment must be a mapping of its keys, got {shown(branch)};"
                " write {} for nothing"
            )


def _range(word: str, content: object, name: str, condition: Conditions) -> Hole:
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
        raise InputError(
            f"{name}: the range {shown(content)} is wider than a float can hold; bring its ends closer together"
        )
    if word == "loguniform" and low <= 0:
        raise InputError(
            f"{name}: 'loguniform' needs low > 0, got {shown(content)}; use 'uniform' for a range that holds 0"
        )
    if word == "int":
        return Hole(name, "int", condition, low=low, high=high, step=step)
    return Hole(name, "uniform" if word == "uniform" else "loguniform", condition, low=float(low), high=float(high))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def walk(value: object) -> Iterator[Hole]:
    """Iterate over the search parameters below a value, including those in branches, in the order of the YAML."""
    if isinstance(value, Hole):
        yield value
        for branch in value.branches.values():
            yield from walk(branch)
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from walk(inner)
