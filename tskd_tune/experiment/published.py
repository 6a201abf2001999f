"""The options that a method's authors publish for one pair of networks, from the YAML file in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tskd_tune import documents

Table = Mapping[str, Mapping[str, Mapping[str, Mapping[str, object]]]]


@cache
def published() -> Table:
    """Return distiller -> teacher -> student -> options."""
    return documents.read(Path(__file__).with_name("published.yaml"))


def with_published(document: Mapping[str, object]) -> dict[str, object]:
    """Return an experiment as plain data; options of the distiller that are not set get their published values."""
    if "distiller" not in document:
        return dict(document)
    teacher, student = (str(_spelled(document.get(key)).get("name")) for key in ("teacher", "student"))
    return {**document, "distiller": _filled(document["distiller"], teacher, student)}


def _filled(distiller: object, teacher: str, student: str) -> object:
    if not isinstance(distiller, str | Mapping):
        return distiller
    given = _spelled(distiller)
    parts = given.get("parts")
    if isinstance(parts, Mapping):  # a combination: fill each part
        return {**given, "parts": {label: _filled(part, teacher, student) for label, part in parts.items()}}
    options = published().get(str(given.get("name")), {}).get(teacher, {}).get(student, {})
    return {**given, **{name: value for name, value in options.items() if name not in given}}


def _spelled(component: object) -> dict[str, object]:
    """Return a component as a mapping; empty for a missing component."""
    if isinstance(component, Mapping):
        return dict(component)
    return {"name": component} if isinstance(component, str) else {}
