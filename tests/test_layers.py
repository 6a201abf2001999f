"""Imports go down only and never in a circle: every file of the package is read, with the imports in its functions."""

import ast
import graphlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tskd_tune"
# Ground to roof; the rooms of one floor are strangers to one another.
FLOORS = [
    ["errors", "metrics", "paths", "plain", "redaction", "signals", "version", "words"],
    ["docstrings", "hints", "sources"],
    ["places", "parsing", "kinds", "shipped", "first_bytes", "outside"],
    ["options"],
    ["signatures", "slots"],
    ["registry", "contracts", "documents", "files", "saved"],
    ["storage", "method"],
    ["networks", "tasks", "distillers", "teaching"],
    ["training"],
    ["experiment"],
    ["records"],
    ["reports", "callbacks"],
    ["sweeps"],
    ["single", "clusters"],
    ["local", "checks"],
    ["studies"],
    ["api", "testing"],
    ["cli"],
    ["__main__"],
]
LEVELS = {room: level for level, floor in enumerate(FLOORS) for room in floor}
# Packages with rooms of their own, again from ground to roof. A file that is named here stands on its floor; any other
# file beside the rooms stands above them.
ROOMS = {
    "cli": [["terminal"], ["app"], ["preparing", "reading"], ["training"]],
    "records": [["storing"], ["entries"], ["runs"], ["wandb", "protocols"], ["sessions"], ["kept"]],
    "reports": [["judge"], ["findings"], ["forms"], ["page"]],
    "studies": [
        ["axis", "found", "place"],
        ["base", "drawing", "still"],
        ["extractor", "overhead", "target", "temporal"],
    ],
    "sweeps": [
        ["messages", "on_ray"],
        ["space"],
        ["searching"],
        ["scheduling"],
        ["declared"],
        ["evidence", "estimating", "machines"],
        ["trials"],
    ],
}
# A folder of more files is no longer one room.
MOST_FILES = 15
SMALL_ROOMS = [
    folder
    for package in ("cli", "records", "studies", "sweeps")
    for folder in (package, *(f"{package}/{room}" for floor in ROOMS[package] for room in floor))
    if (PACKAGE / folder).is_dir()
]


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


# A module's name -> its file; a package is named by its folder.
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imported_modules(source: str, known: Collection[str]) -> Iterator[str]:
    """Return the modules that a file imports, wherever in the file: also in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in known else node.module for name in inner if {name, node.module} & set(known))


def circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Return one circle of imports, its first module again at its end; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_modules_import_one_another_in_a_circle():
    graph = {name: set(imported_modules(path.read_text(), MODULES)) - {name} for name, path in MODULES.items()}
    assert circle(graph) == []


@pytest.mark.parametrize(
    "line",
    [
        "import room.low",
        "from room import low",
        "from room.low import name",
        "def f():\n    from room.low import name",
        "if TYPE_CHECKING:\n    from room.low import name",
    ],
)
def test_a_circle_is_seen(line: str):
    known = {"room", "room.high", "room.low"}
    graph = {"room.low": {"room.high"}, "room.high": set(imported_modules(line, known))}
    assert set(circle(graph)) == {"room.low", "room.high"}


def level_within(package: str, room: str) -> int:
    """Return the floor of a room of a package; what is none of its rooms is on the roof."""
    floors = ROOMS[package]
    return next((level for level, floor in enumerate(floors) if room in floor), len(floors))


def climbs_within(package: str, room: str, source: str) -> list[str]:
    """Return what a file in a room of a package imports from the rooms beside and above it, and from the roof."""
    modules = [module.split(".") for module in imported_modules(source, MODULES)]
    rooms = [parts[2] for parts in modules if parts[1:2] == [package] and len(parts) > 2]
    return [other for other in rooms if other != room and level_within(package, other) >= level_within(package, room)]


IN_ROOMS = [
    path
    for package in ROOMS
    for path in sorted((PACKAGE / package).rglob("*.py"))
    if level_within(package, path.relative_to(PACKAGE / package).parts[0].removesuffix(".py")) < len(ROOMS[package])
]


@pytest.mark.parametrize("path", IN_ROOMS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_down_within_a_package(path: Path):
    package, room = path.relative_to(PACKAGE).parts[:2]
    assert climbs_within(package, room.removesuffix(".py"), path.read_text()) == []


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_of_a_package_has_its_floor(package: str):
    folders = {path.name for path in (PACKAGE / package).iterdir() if path.is_dir()} - {"__pycache__"}
    files = {path.stem for path in (PACKAGE / package).glob("*.py")}
    rooms = {room for floor in ROOMS[package] for room in floor}
    assert folders <= rooms <= folders | files


@pytest.mark.parametrize("package", ["records", "reports"])
def test_every_file_is_in_a_room(package: str):
    assert {path.name for path in (PACKAGE / package).glob("*.py")} == {"__init__.py"}


@pytest.mark.parametrize("folder", SMALL_ROOMS)
def test_a_room_holds_few_files(folder: str):
    files = [path.name for path in (PACKAGE / folder).glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES, "give what belongs together a room of its own"


@pytest.mark.parametrize("folder", SMALL_ROOMS)
def test_tests_lie_as_what_they_test(folder: str):
    """A test that bears the name of a module lies in the folder of this module's room."""
    tests = Path(__file__).parent
    modules = {path.name for path in (PACKAGE / folder).glob("*.py")} - {"__init__.py"}
    beside = (tests / folder.partition("/")[0]).rglob("test_*.py")
    named = {path: path.name.removeprefix("test_") for path in beside if path.name.removeprefix("test_") in modules}
    strays = [
        path for path, module in named.items() if not (PACKAGE / path.parent.relative_to(tests) / module).exists()
    ]
    assert strays == [], f"move it to {tests / folder}"


@pytest.mark.parametrize(
    ("package", "room", "line"),
    [
        ("reports", "judge", "from tskd_tune.reports.page import charts"),
        ("reports", "judge", "from tskd_tune.reports import forms"),
        ("records", "storing", "from tskd_tune.records.entries.row import Row"),
        ("records", "wandb", "from tskd_tune.records.protocols import protocol"),
        ("cli", "reading", "from tskd_tune.cli.training import running"),
        ("cli", "terminal", "from tskd_tune.cli.app import app"),
        ("studies", "temporal", "from tskd_tune.studies.extractor import laws"),
        ("sweeps", "space", "from tskd_tune.sweeps.searching.search import Random"),
        ("sweeps", "space", "from tskd_tune.sweeps import searching"),
        ("sweeps", "space", "def f():\n    import tskd_tune.sweeps.trials.bundles"),
        ("sweeps", "on_ray", "from tskd_tune.sweeps.messages import results"),
        ("sweeps", "trials", "from tskd_tune.sweeps import limits"),
        ("sweeps", "trials", "from tskd_tune.sweeps.recorder import Recorder"),
    ],
)
def test_a_climb_within_a_package_is_seen(package: str, room: str, line: str):
    assert climbs_within(package, room, line)


@pytest.mark.parametrize(
    ("package", "room", "line"),
    [
        ("reports", "page", "from tskd_tune.reports.page import charts"),
        ("reports", "page", "from tskd_tune.reports import forms"),
        ("sweeps", "trials", "from tskd_tune.sweeps.searching.search import Random"),
        ("sweeps", "trials", "from tskd_tune.sweeps import space"),
        ("sweeps", "trials", "from tskd_tune.reports.page import report"),
    ],
)
def test_what_goes_down_within_a_package_is_let_through(package: str, room: str, line: str):
    assert climbs_within(package, room, line) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("method", "from tskd_tune.training.trainer import Trainer"),
        ("networks", "from tskd_tune.tasks.base import Task"),
        ("errors", "from tskd_tune import registry"),
        ("experiment", "def f():\n    import tskd_tune.sweeps.run"),
        ("sweeps", "from ..cli import main"),
        ("sweeps", "from tskd_tune.somewhere import new"),
    ],
)
def test_a_climb_is_seen(room: str, line: str):
    assert climbs(room, line)


def test_what_goes_down_is_let_through():
    assert (
        climbs("distillers", "from tskd_tune.method.transforms import Attention\nfrom tskd_tune import contracts") == []
    )
