"""YAML files as plain data: read strictly, extended by other files, merged, and set from the command line.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): ``5e-4`` is a number,
``yes``, ``on`` and ``1:30`` are text. Keys are text as written, so that everything here is also plain JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tskd_tune.errors import InputError, did_you_mean

PACKAGED = Path(__file__).parent / "experiments"
RANGES = ("int", "uniform", "loguniform")
DOMAINS = ("choice", "grid", *RANGES)

_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
    "merge": (re.compile(r"^<<$"), ["<"]),
}


class _Loader(yaml.SafeLoader):
    """The core schema, ``<<`` and nothing else."""

    # PyYAML keeps its tables on the class; without tables of its own this one would know all of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    yaml_constructors: dict[str | None, Any] = {}  # type: ignore[misc]  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes what readers of YAML 1.1 or 1.2 would take for something other than text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write shared parts out, so that a file can be edited by hand."""
        return True


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; ``extends`` is left as it stands.

    Raises:
        InputError: the file cannot be read, is not YAML, repeats a key or holds something other than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    document = _parse(text, str(path))
    if not isinstance(document, dict):
        raise InputError(f"{path}:1:1: must hold a mapping (key: value), got {_kind(document)}")
    return document


def dump(document: Mapping[str, Any]) -> str:
    """Write plain data as YAML that `read` reads back to the same data, in the same order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def extended(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a document merged over the one that its ``extends`` names, and that over its own, and so on.

    The same is done to the mapping under ``experiment``, where a sweep keeps the experiment that it searches.

    Args:
        document: the content of a file, with or without ``extends``: a path relative to ``folder``, or else to the
            package's own experiments.
        folder: the folder of the file.

    Raises:
        InputError: the file that is named is not there, is malformed or extends itself.
    """
    return _extended(document, folder, ())


def _extended(document: Mapping[str, Any], folder: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    own = {key: value for key, value in document.items() if key != "extends"}
    if isinstance(own.get("experiment"), Mapping):
        own["experiment"] = _extended(own["experiment"], folder, chain)
    if "extends" not in document:
        return own
    path = _find(document["extends"], folder)
    if path in chain:
        circle = " -> ".join(str(step) for step in (*chain, path))
        raise InputError(f"extends: {circle} goes in a circle; remove one 'extends'")
    return merge(_extended(read(path), path.parent, (*chain, path)), own)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it: mappings merge key by key, everything else replaces.

    A mapping replaces whole where both sides carry a ``name`` and the names differ, as the options of one
    component mean nothing to another, and where a range or one domain of a search space meets another.
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


def apply_settings(document: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Return a document with settings ``a.b=value`` merged over it, in order; a value is read as YAML.

    Raises:
        InputError: a setting has no ``=``, an empty key or a value that is not YAML, or goes into a value
            that is neither a mapping nor null.
    """
    merged = dict(document)
    for setting in settings:
        keys, value = _setting(setting)
        _refuse_scalars_on_the_way(merged, keys, setting)
        for key in reversed(keys):
            value = {key: value}
        merged = merge(merged, value)
    return merged


def _setting(setting: str) -> tuple[list[str], Any]:
    path, equals, text = setting.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise InputError(f"--set {setting}: must read key.key=value, as review.k=6")
    return keys, _parse(text, f"--set {setting}")


def _refuse_scalars_on_the_way(document: Mapping[str, Any], keys: list[str], setting: str) -> None:
    value: Any = document
    for depth, key in enumerate(keys[:-1], start=1):
        value = value.get(key)
        if value is None:
            return
        if not isinstance(value, Mapping):
            where = ".".join(keys[:depth])
            raise InputError(f"--set {setting}: {where} is {value!r}, which has no '{keys[depth]}'; set {where} itself")


def _replaces(base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    if "name" in base and "name" in over and base["name"] != over["name"]:
        return True
    below, above = _domain(base), _domain(over)
    both_differ = below is not None and above is not None and below != above
    return below in RANGES or above in RANGES or both_differ


def _domain(value: Mapping[str, Any]) -> str | None:
    """Return the word of a mapping that is a domain of a search space and nothing else."""
    words = [key for key in value if key in DOMAINS]
    return words[0] if len(words) == len(value) == 1 else None


def _find(name: Any, folder: Path) -> Path:
    if not isinstance(name, str):
        raise InputError(f"extends: must be the path of a YAML file, got {name!r}")
    for place in (folder, PACKAGED):
        if (place / name).is_file():
            return (place / name).resolve()
    packaged = [str(path.relative_to(PACKAGED)) for path in PACKAGED.rglob("*.yaml")]
    raise InputError(
        f"extends: '{name}' is neither in {folder} nor among the package's experiments{did_you_mean(name, packaged)}"
    )


def _parse(text: str, where: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{where}{place}: {error.problem}; correct the YAML there") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: {' '.join(str(error).split())}; remove what is not text") from error
    finally:
        if loader is not None:
            loader.dispose()


def _kind(value: Any) -> str:
    if value is None:
        return "nothing: the file is empty"
    return "a list" if isinstance(value, list) else repr(value)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    _refuse_bad_keys(node)
    loader.flatten_mapping(node)
    # What `<<` brought stands first, so that the mapping's own keys win.
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _refuse_bad_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen:
            problem = f"the key '{key.value}' stands here a second time"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def _integer(text: str) -> int:
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _scalar(convert: Callable[[str], Any]) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    """Make PyYAML's constructor out of a conversion; an explicit tag (``!!int x``) may not fit the text."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(problem=str(error), problem_mark=node.start_mark) from error

    return construct


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _unknown_tag(loader: _Loader, node: yaml.Node) -> Any:
    problem = f"the tag '{node.tag}' means nothing here"
    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


def _teach_core_schema() -> None:
    for name, (pattern, first) in _SCALARS.items():
        _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, first)
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    constructors: dict[str, Callable[[_Loader, Any], Any]] = {
        "null": _scalar(lambda text: None),
        "bool": _scalar(lambda text: text.lower() == "true"),
        "int": _scalar(_integer),
        "float": _scalar(_float),
        "str": _scalar(str),
        "seq": _sequence,
        "map": _mapping,
    }
    for name, constructor in constructors.items():
        _Loader.add_constructor(f"tag:yaml.org,2002:{name}", constructor)
    _Loader.yaml_constructors[None] = _unknown_tag


_teach_core_schema()
