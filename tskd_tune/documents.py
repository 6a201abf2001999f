"""Reads YAML files as plain data, resolves ``extends``, merges files, and applies settings of the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.parsing import MOST_DEPTH, dump, parse, text_of
from tskd_tune.paths import written
from tskd_tune.places import Keys, Place, Places
from tskd_tune.shipped import SPACES, file_of, spaces

__all__ = ["Placed", "apply_settings", "dump", "extended", "load", "merge", "read"]

PACKAGED = Path(__file__).parent / "experiments"
RANGES = ("int", "uniform", "loguniform")
DOMAINS = ("choice", "grid", *RANGES)
EXPERIMENT = "experiment"
MOST_BYTES = 16 * 2**20
MOST_EXTENDED = 20


@dataclass(frozen=True)
class Placed:
    """Plain data, and the place of every value."""

    data: dict[str, Any]
    of: Mapping[Keys, Place]
    source: Place | None = None

    @property
    def places(self) -> Places:
        """The places, which add file and line to messages about the data."""
        return Places(self.data, self.of, self.source)

    def with_settings(self, settings: Iterable[str]) -> Placed:
        """Return the document with settings ``a.b=value`` applied; see `apply_settings`.

        Raises:
            InputError: a setting is malformed.
        """
        return _set(self, settings)


def load(path: Path, settings: Iterable[str] = ()) -> Placed:
    """Read a YAML file, resolve ``extends``, apply settings ``a.b=value``, and keep the place of each value.

    Args:
        path: the file, or the name of a search space of the package.
        settings: the settings, applied in order.

    Raises:
        InputError: a file is missing, malformed or extends itself, or a setting is malformed.
    """
    file = file_of(path)
    return _extended(_read(file), file.parent, ()).with_settings(settings)


def read(path: Path, name: str | None = None) -> dict[str, Any]:
    """Read a YAML file with one mapping; ``extends`` is not resolved. Messages call it ``name``; None: its path.

    Raises:
        InputError: the file cannot be read, is not YAML, repeats a key or does not contain a mapping.
    """
    return _read(path, name).data


def _read(path: Path, name: str | None = None) -> Placed:
    name = str(path) if name is None else name
    try:
        content = _content(path) if path.is_file() or path.is_dir() else _streamed(path)
        text = content.decode("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InputError(f"{name}: is not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason}); give the path of a YAML file") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{name}: is larger than {MOST_BYTES >> 20} MiB; give the path of a YAML file")
    parsed = parse(text, name)
    if not isinstance(parsed.data, dict):
        raise InputError(f"{name}:1:1: must hold a mapping (key: value), got {_kind(parsed.data)}")
    places = {keys: Place(name, line) for keys, line in parsed.lines.items()}
    return Placed(parsed.data, places, Place(name))


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


@cache
def _streamed(path: Path) -> bytes:
    """Read a pipe, such as ``/dev/stdin``, which can be read once only; later calls get the same bytes."""
    return _content(path)


def extended(document: Mapping[str, object], folder: Path) -> dict[str, Any]:
    """Return a document merged over the file that ``extends`` names; that file can extend another file.

    The mapping under ``experiment``, the experiment of a sweep, can have ``extends`` too.

    Args:
        document: the content of a file. ``extends`` is a path relative to ``folder``, or otherwise to the experiments
            of the package.
        folder: the folder of the file; every text of the document remembers this folder, because texts may be paths.

    Raises:
        InputError: the extended file is missing, is malformed or extends itself.
    """
    return _extended(Placed(dict(document), {}), folder, ()).data


def _extended(document: Placed, folder: Path, chain: tuple[Path, ...]) -> Placed:
    own = {key: written(value, folder) for key, value in document.data.items() if key != "extends"}
    places = dict(document.of)
    if isinstance(own.get(EXPERIMENT), Mapping):
        inner = _extended(_below(document, EXPERIMENT), folder, chain)
        own[EXPERIMENT] = inner.data
        places |= {(EXPERIMENT, *keys): place for keys, place in inner.of.items()}
    if "extends" not in document.data:
        return Placed(own, places, document.source)
    try:
        path = _find(document.data["extends"], folder)
    except InputError as error:
        raise InputError(document.places.name(str(error))) from error
    if path in chain or len(chain) >= MOST_EXTENDED:
        circle = " -> ".join(str(step) for step in (*chain, path))
        what = "goes in a circle" if path in chain else f"names more than {MOST_EXTENDED} files"
        raise InputError(f"extends: {circle} {what}; remove one 'extends'")
    base = _extended(_read(path), path.parent, (*chain, path))
    return Placed(merge(base.data, own), {**base.of, **places}, document.source)


def _below(document: Placed, key: str) -> Placed:
    places = {keys[1:]: place for keys, place in document.of.items() if keys[0] == key and len(keys) > 1}
    return Placed(dict(document.data[key]), places, document.source)


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, Any]:
    """Return ``base`` merged with ``over``: mappings merge key by key, all other values of ``over`` replace.

    A mapping of ``over`` replaces the whole mapping of ``base`` in two cases: if both have a ``name`` and the names
    differ, because options of one component do not fit another; and if one is a range, or both are different domains of
    a search space.
    """
    if _replaces(base, over):
        return dict(over)
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def apply_settings(document: Mapping[str, object], settings: Iterable[str]) -> dict[str, Any]:
    """Return a document merged with settings ``a.b=value``, in order; values are read as YAML.

    Raises:
        InputError: a setting has no ``=``, an empty key or a value that is not YAML, or sets a key inside a value
            that is neither a mapping nor null.
    """
    return _set(Placed(dict(document), {}), settings).data


def _set(document: Placed, settings: Iterable[str]) -> Placed:
    merged, places = document.data, dict(document.of)
    for setting in settings:
        keys, value, below = _setting(setting)
        _refuse_scalars_on_the_way(merged, keys, setting)
        for key in reversed(keys):
            value = {key: value}
        merged = merge(merged, value)
        place = Place(f"--set {setting}")
        places |= dict.fromkeys([tuple(keys), *((*keys, *inner) for inner in below)], place)
        for length in range(1, len(keys)):  # mappings that the setting adds
            places.setdefault(tuple(keys[:length]), place)
    return Placed(merged, places, document.source)


def _setting(setting: str) -> tuple[list[str], Any, list[Keys]]:
    """Return the keys of a setting, the value, and the keys within the value."""
    path, equals, text = setting.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise InputError(f"--set {setting}: must read key.key=value, as review.k=6")
    if keys in (["extends"], [EXPERIMENT, "extends"]):
        raise InputError(f"--set {setting}: extends is read before settings; write it into the YAML file")
    try:
        keys = [text_of(key) for key in keys]
    except ValueError as error:
        raise InputError(f"--set {setting}: {error}; remove it from the key") from error
    if len(keys) > MOST_DEPTH:
        raise InputError(f"--set {setting[:60]}...: has {len(keys)} keys, but {MOST_DEPTH} are the most; correct it")
    found = parse(text, f"--set {setting}")
    return keys, found.data, list(found.lines)


def _refuse_scalars_on_the_way(document: Mapping[str, Any], keys: list[str], setting: str) -> None:
    value: Any = document
    for depth, key in enumerate(keys[:-1], start=1):
        value = value.get(key)
        if value is None:
            return
        if not isinstance(value, Mapping):
            where = ".".join(keys[:depth])
            raise InputError(f"--set {setting}: {where} is {value!r}, which has no '{keys[depth]}'; set {where} itself")


def _replaces(base: Mapping[str, object], over: Mapping[str, object]) -> bool:
    if "name" in base and "name" in over and base["name"] != over["name"]:
        return True
    below, above = _domain(base), _domain(over)
    both_differ = below is not None and above is not None and below != above
    return below in RANGES or above in RANGES or both_differ


def _domain(value: Mapping[str, object]) -> str | None:
    """Return the kind of domain of a search space that a mapping is; None for any other mapping."""
    words = [key for key in value if key in DOMAINS]
    return words[0] if len(words) == len(value) == 1 else None


def _find(name: object, folder: Path) -> Path:
    if not isinstance(name, str):
        raise InputError(f"extends: must be the path of a YAML file, got {name!r}")
    for place in (folder, PACKAGED, SPACES):
        if _is_file(place / name):
            return (place / name).resolve()
    packaged = [str(path.relative_to(PACKAGED)) for path in PACKAGED.rglob("*.yaml")]
    packaged += [path.name for path in spaces().values()]
    raise InputError(
        f"extends: '{name}' is neither in {folder} nor among the package's experiments{did_you_mean(name, packaged)}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no file can have this name
        return False


def _kind(value: object) -> str:
    if value is None:
        return "nothing: the file is empty"
    return "a list" if isinstance(value, list) else repr(value)
