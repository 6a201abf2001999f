"""Imports go down only: every file of the package is read, and one that imports upwards fails."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tskd_tune"
# Ground to roof; the rooms of one floor are strangers to one another.
FLOORS = [
    ["errors", "docstrings", "metrics", "paths", "signals"],
    ["places", "parsing", "kinds", "shipped", "first_bytes", "outside"],
    ["registry", "contracts", "documents", "files", "saved"],
    ["method"],
    ["networks", "tasks", "distillers", "teaching"],
    ["training"],
    ["experiment"],
    ["records"],
    ["reports"],
    ["sweep"],
    ["local"],
    ["cli"],
    ["__main__"],
]
LEVELS = {room: level for level, floor in enumerate(FLOORS) for room in floor}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "a relative import"
        modules = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            modules = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        yield from (module.split(".")[1] for module in modules if module.startswith(f"{PACKAGE.name}."))


def climbs(room: str, source: str) -> list[str]:
    others = [other for other in imported_rooms(source) if other != room and not other.startswith("__")]
    return [other for other in others if LEVELS.get(other, len(FLOORS)) >= LEVELS[room]]


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down(path: Path):
    assert climbs(room_of(path), path.read_text()) == []


def test_every_room_has_its_floor():
    assert {room_of(path) for path in FILES} == set(LEVELS)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("method", "from tskd_tune.training.trainer import Trainer"),
        ("networks", "from tskd_tune.tasks.base import Task"),
        ("errors", "from tskd_tune import registry"),
        ("experiment", "def f():\n    import tskd_tune.sweep.run"),
        ("sweep", "from ..cli import main"),
        ("sweep", "from tskd_tune.somewhere import new"),
    ],
)
def test_a_climb_is_seen(room: str, line: str):
    assert climbs(room, line)


def test_what_goes_down_is_let_through():
    assert (
        climbs("distillers", "from tskd_tune.method.transforms import Attention\nfrom tskd_tune import contracts") == []
    )
