"""The distillers that were trained, and the paper or code that each distiller follows."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.grouping import distinct
from tskd_tune.reports.findings.records import Method, part

# How a file registers its distiller, and where these files are.
REGISTRATION: Final = "DISTILLERS.register"
DISTILLERS_FOLDER: Final = Path(__file__).parents[2] / "distillers"


def methods(rows: Sequence[Row]) -> tuple[Method, ...]:
    """Name the source of every distiller that was trained, and of every part of a combination."""
    names = distinct(name for row in rows for name in _distillers(part(row.experiment, "distiller")))
    return tuple(Method(name, source) for name in names if (source := _source_of(name)))


def _distillers(distiller: Mapping[str, Json]) -> list[str]:
    parts = part(distiller, "parts")
    found = [distiller.get("name"), *(part(parts, label).get("name") for label in parts)]
    return [name for name in found if isinstance(name, str)]


def _source_of(name: str) -> str | None:
    """Return the source of a distiller; None for one that is not installed here, or that a file of the user's holds."""
    return _shipped().get(name) or _outsiders(name)


@cache
def _shipped() -> Mapping[str, str]:
    """Read name -> source of this package's distillers from their files' text; importing them would load torch."""
    found = {}
    for file in sorted(DISTILLERS_FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == REGISTRATION:
                found[ast.literal_eval(node.args[0])] = ast.literal_eval(node.keywords[0].value)
    return found


def _outsiders(name: str) -> str | None:
    if ":" in name:  # to import what a run names would run code of whoever made the run
        return None
    from tskd_tune.distillers import DISTILLERS

    try:
        return DISTILLERS.entry(name).source
    except InputError:
        return None
