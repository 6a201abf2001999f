"""Where a value stands: the file and line, or the ``--set``, that it was read from."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain

from tskd_tune.errors import InputError

Keys = tuple[str, ...]
# How a sentence names a key that stands where it is not known; see `tskd_tune.registry.Options`.
_UNKNOWN = re.compile(r"(?:: )?unknown key '(.*?)'")


@dataclass(frozen=True)
class Place:
    """Where a value was given.

    Attributes:
        source: the path of a file, or ``--set a.b=c``.
        line: the line of the file, from 1; None where there are no lines.
    """

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """Return ``file.yaml:12``, as compilers and editors write it."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Places:
    """The places of a document's values, and the values, whose keys a sentence may name.

    Attributes:
        data: the document, plain data.
        of: the place of a value, by the keys that lead to it; a list's items by their number.
        source: the place of what no key leads to, such as the file itself.
    """

    data: object = field(default_factory=dict, repr=False)
    of: Mapping[Keys, Place] = field(default_factory=dict, repr=False)
    source: Place | None = None

    def at(self, keys: Keys) -> Place | None:
        """Return the place of a value, or of the nearest one around it that has a place."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.of:
                return self.of[keys[:length]]
        return self.source

    def name(self, sentence: str, drawn: Collection[str] | None = None) -> str:
        """Put the place before a sentence, ``file.yaml:12: review.k: ...``, by the dotted path that it begins with.

        Args:
            sentence: what is wrong.
            drawn: the labels of the point that it is wrong in; None: any branch of a choice may be meant.
        """
        return self.put(self.find(sentence, drawn), sentence)

    def find(self, sentence: str, drawn: Collection[str] | None = None) -> Place | None:
        """Return the place of the dotted path that a sentence begins with; see `name`."""
        way = max(self._ways(sentence, drawn), key=lambda way: way.told, default=_Way(0, ()))
        unknown = _UNKNOWN.match(sentence[way.told :])
        return self.at((*way.keys, unknown[1]) if unknown else way.keys)

    def named(self) -> AbstractContextManager[None]:
        """Put the places before the sentences of an error of input that is raised within."""
        return _named(self)

    def put(self, place: Place | None, sentence: str) -> str:
        """Put a place before a sentence that does not begin with one yet."""
        if place is None or sentence.startswith((place.source, "--")):
            return sentence
        return f"{place}: {sentence}"

    def _ways(self, sentence: str, drawn: Collection[str] | None) -> Iterator[_Way]:
        """Follow a sentence's path from the root, from the experiment of a sweep, and from its further arms."""
        yield from _ways(self.data, sentence, drawn)
        roots = [("experiment",), *(("arms", label) for label in drawn or ())]
        for root in roots:
            value = self.data
            for key in root:
                value = value.get(key, {}) if isinstance(value, Mapping) else {}
            yield from (_Way(way.told, (*root, *way.keys)) for way in _ways(value, sentence, drawn))


@dataclass(frozen=True)
class _Way:
    """The keys that a text leads to, and how many of its characters name them."""

    told: int
    keys: Keys


@contextmanager
def _named(places: Places) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError("\n".join(map(places.name, str(error).splitlines()))) from error


def _ways(value: object, text: str, drawn: Collection[str] | None) -> Iterator[_Way]:
    """Follow a dotted path through plain data; a key may hold dots itself, and branches may go without their labels."""
    inner: Mapping[str, object] = {}
    if isinstance(value, Mapping):
        inner = value
    elif isinstance(value, list):
        inner = {str(number): item for number, item in enumerate(value)}
    for key, below in inner.items():
        yield from _named_ways(key, below, text, drawn)
    for word in ("choice", "grid"):
        branches = inner.get(word)
        for label, branch in branches.items() if isinstance(branches, Mapping) else ():
            if drawn is None or label in drawn:
                ways = chain(_named_ways(label, branch, text, drawn), _ways(branch, text, drawn))
                yield from (_Way(way.told, (word, *_after(way, label))) for way in ways)


def _after(way: _Way, label: str) -> Keys:
    return way.keys if way.keys[:1] == (label,) else (label, *way.keys)


def _named_ways(key: str, below: object, text: str, drawn: Collection[str] | None) -> Iterator[_Way]:
    rest = text.removeprefix(key)
    if not key or rest == text or rest[:1] not in (".", ":"):
        return
    yield _Way(len(key), (key,))
    if rest[0] == ".":
        yield from (_Way(len(key) + 1 + way.told, (key, *way.keys)) for way in _ways(below, rest[1:], drawn))
