"""Finds the paths in an experiment or a search space by the types of the options, and makes them absolute."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from tskd_tune.documents import DOMAINS
from tskd_tune.experiment.schema import Experiment
from tskd_tune.outside import whole_name
from tskd_tune.paths import PathOption
from tskd_tune.registry import Group, Options, Slot

Place = tuple[str, ...]
Shapes = Sequence[object]


def located(document: Mapping[str, object]) -> dict[str, object]:
    """Return an experiment, or a search space, with absolute paths and plain texts.

    A list of paths to choose from becomes a mapping, so that each path keeps its label as written. A text that cannot
    be a path is kept unchanged; reading the experiment refuses such a text.
    """
    walk = _Locator(document)
    return {key: walk.inner(key, value, (), [Experiment], document) for key, value in document.items()}


class _Locator:
    """Walks over plain data together with the types of the schema; a choice and its labels are not part of a place."""

    def __init__(self, document: Mapping[str, object]) -> None:
        self._names: dict[Place, list[str]] = {}
        for place, text in _texts(document, ()):
            self._names.setdefault(place, []).append(text)

    def walk(self, value: object, place: Place, shapes: Shapes) -> object:
        """Return a value with absolute paths; ``shapes`` are the possible types of the value."""
        if isinstance(value, str):
            return _text(value, shapes)
        if isinstance(value, list):
            items = [item for shape in shapes for item in _items(shape)]
            return [self.walk(item, place, items or shapes) for item in value]
        if not isinstance(value, Mapping):
            return value
        return {key: self.inner(key, inner, place, shapes, value) for key, inner in value.items()}

    def inner(self, key: object, value: object, place: Place, shapes: Shapes, beside: Mapping[str, object]) -> object:
        """Return the value of a key with absolute paths; ``beside`` is the mapping that has the key."""
        if key in ("choice", "grid") and isinstance(value, Mapping):
            return {label: self.walk(branch, place, shapes) for label, branch in value.items()}
        if key in ("choice", "grid") and isinstance(value, list):
            return self._listed(value, shapes)
        inner = [found for shape in shapes for found in self._fields(shape, str(key), place, beside)]
        if key == "name":
            inner += [shape for shape in shapes if isinstance(shape, Slot)]
        return self.walk(value, (*place, str(key)), inner)

    def _listed(self, values: list[object], shapes: Shapes) -> object:
        read = [_text(value, shapes) if isinstance(value, str) else value for value in values]
        labels = [str(value) for value in values]
        if read == values or not all(isinstance(value, str) for value in values) or len({*labels}) < len(labels):
            return read
        return dict(zip(labels, read, strict=True))

    def _fields(self, shape: object, key: str, place: Place, beside: Mapping[str, object]) -> Iterator[object]:
        """Return the possible types of a key's value in a mapping of type ``shape``."""
        if isinstance(shape, Slot):
            for model in self._components(shape, place, beside):
                yield from self._fields(model, key, place, beside)
        elif isinstance(shape, type) and issubclass(shape, Options):
            for name, field in shape.model_fields.items():
                if key in (name, field.alias):
                    yield from _shapes(field.annotation, field.metadata)
        elif typing.get_origin(shape) is dict:
            yield from _shapes(typing.get_args(shape)[1])

    def _components(self, slot: Slot, place: Place, beside: Mapping[str, object]) -> Iterator[object]:
        """Return the options of the component that a mapping names; without a name, of all components at this place."""
        own = beside.get("name")
        names = [own] if isinstance(own, str) else [*self._names.get((*place, "name"), []), *self._names.get(place, [])]
        for name in dict.fromkeys(names):
            with suppress(Exception):  # reading the component reports any error
                yield slot.registry.options(whole_name(name), slot.base)


def _texts(value: object, place: Place) -> Iterator[tuple[Place, str]]:
    """Return every text with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, place)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("choice", "grid") and isinstance(inner, Mapping):
                for branch in inner.values():
                    yield from _texts(branch, place)
            else:
                yield from _texts(inner, place if key in DOMAINS else (*place, str(key)))


def _text(text: str, shapes: Shapes) -> str:
    for shape in shapes:
        with suppress(ValueError):
            if isinstance(shape, PathOption):
                return str(shape.read(text))
            if isinstance(shape, Slot):
                return whole_name(text)
    return str(text)


def _items(shape: object) -> Iterator[object]:
    if typing.get_origin(shape) is list:
        yield from _shapes(typing.get_args(shape)[0])


def _shapes(hint: object, metadata: Sequence[object] = ()) -> Iterator[object]:
    """Return the possible types of a hint: models, slots of registries, paths, and lists and mappings of these."""
    marks = [mark for mark in metadata if isinstance(mark, Slot | PathOption)]
    groups = [mark.model for mark in metadata if isinstance(mark, Group)]
    origin = typing.get_origin(hint)
    if marks or groups:
        yield from [*marks, *groups]
    elif origin is typing.Annotated:
        inner, *marked = typing.get_args(hint)
        yield from _shapes(inner, marked)
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _shapes(part)
    else:
        yield hint
