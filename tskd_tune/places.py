"""The place of a value: the file and line, or the ``--set``, from which the value was read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain

from tskd_tune.errors import InputError

Keys = tuple[str, ...]
_CHOICE = ("experiment", "choice")
# How a message names an unknown key; see `tskd_tune.registry.Options`.
_UNKNOWN = re.compile(r"(?:: )?unknown key '(.*?)'")
# How a message says that no component has a name; see `tskd_tune.registry.Registry`.
_COMPONENT = re.compile(r": '(.*?)' (?:is not|cannot be)")


@dataclass(frozen=True)
class Place:
    """The place of a value.

    Attributes:
        source: the path of a file, or ``--set a.b=c``.
        line: the line of the file, from 1; None without lines.
    """

    source: str
    line: int | None = None

    def __str__(self) -> str:
        """Return ``file.yaml:12``, the form of compilers and editors."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Places:
    """A document and the places of its values; messages name values by their keys.

    Attributes:
        data: the document, plain data.
        of: path of keys -> place of the value; the key of a list's item is its number.
        source: the place of values without keys, such as the file itself.
    """

    data: object = field(default_factory=dict, repr=False)
    of: Mapping[Keys, Place] = field(default_factory=dict, repr=False)
    source: Place | None = None

    def at(self, keys: Keys) -> Place | None:
        """Return the place of a value, or of the nearest enclosing value that has a place."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.of:
                return self.of[keys[:length]]
        return self.source

    def name(self, sentence: str, drawn: Collection[str] | None = None) -> str:
        """Put a place before a message: ``file.yaml:12: review.k: ...``. The message must begin with a dotted path.

        Args:
            sentence: the message.
            drawn: the labels of the configuration with the error; None: the error may be in any branch of a choice.
        """
        return self.put(self.find(sentence, drawn), sentence)

    def find(self, sentence: str, drawn: Collection[str] | None = None) -> Place | None:
        """Return the place of the dotted path at the beginning of a message; see `name`."""
        way = max(self._ways(sentence, drawn), key=lambda way: way.told, default=_Way(0, ()))
        return self.at((*way.keys, *self._further(way, sentence[way.told :], drawn)))

    def named(self) -> AbstractContextManager[None]:
        """Add places to the messages of an `InputError` that is raised within the block."""
        return _named(self)

    def put(self, place: Place | None, sentence: str) -> str:
        """Put a place before a message that does not begin with a place."""
        if place is None or sentence.startswith((place.source, "--")):
            return sentence
        return f"{place}: {sentence}"

    def _further(self, way: _Way, rest: str, drawn: Collection[str] | None) -> Keys:
        """Return the keys that a message means below those that it begins with: an unknown key, a component's name."""
        if unknown := _UNKNOWN.match(rest):
            key = unknown[1]
            roots: list[Keys] = [(), *_roots(drawn), *((*_CHOICE, label) for label in drawn or ())]
            own = next((root for root in roots if (*root, key) in self.of), ()) if not way.keys else ()
            return (*own, key)
        component = _COMPONENT.match(rest)
        return ("name",) if component and self._value((*way.keys, "name")) == component[1] else ()

    def _value(self, keys: Keys) -> object:
        value = self.data
        for key in keys:
            value = value.get(key, {}) if isinstance(value, Mapping) else {}
        return value

    def _ways(self, sentence: str, drawn: Collection[str] | None) -> Iterator[_Way]:
        """Follow a message's path from the root, from the experiment of a sweep, and from the further arms."""
        yield from _ways(self.data, sentence, drawn)
        for root in _roots(drawn):
            yield from (_Way(way.told, (*root, *way.keys)) for way in _ways(self._value(root), sentence, drawn))


def _roots(drawn: Collection[str] | None) -> list[Keys]:
    """Return the keys of the experiment of a sweep, and of the further arms."""
    return [("experiment",), *(("arms", label) for label in drawn or ())]


@dataclass(frozen=True)
class _Way:
    """The keys at the beginning of a text, and the number of characters that name these keys."""

    told: int
    keys: Keys


@contextmanager
def _named(places: Places) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError("\n".join(map(places.name, str(error).splitlines()))) from error


def _ways(value: object, text: str, drawn: Collection[str] | None) -> Iterator[_Way]:
    """Follow a dotted path through plain data; a key may contain dots, and the path may omit labels of branches."""
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
