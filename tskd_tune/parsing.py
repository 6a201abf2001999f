"""Parses YAML text into plain data, with the line of every value.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): ``5e-4`` is a number,
``yes``, ``on`` and ``1:30`` are text. Keys are text as written, so the data is also valid JSON. Features that no file
of this package needs are refused: deep nesting, aliases that multiply, numbers beyond 64 bits, control characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import ReaderError

from tskd_tune.errors import InputError
from tskd_tune.plain import Document

MOST_DEPTH = 50
# The maximal number of values that aliases may add.
MOST_REPEATED = 20_000
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
# All control characters except the tab and the line ends.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Parsed:
    """The content of a text.

    Attributes:
        data: plain data, as in JSON.
        lines: path of keys -> line of the value, from 1; the key of a list's item is its number, from 0.
    """

    data: Any
    lines: Mapping[Keys, int]


class _Loader(yaml.SafeLoader):
    """Reads the core schema and ``<<``, nothing else."""

    # PyYAML keeps tables on the class; without its own tables this class would accept all of YAML 1.1.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    yaml_constructors: dict[str | None, Any] = {}  # type: ignore[misc]  # noqa: RUF012
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse deep nesting before it exhausts the stack."""
        self.depth += 1
        if self.depth > MOST_DEPTH and parent is not None:
            raise ConstructorError(problem=_TOO_DEEP, problem_mark=parent.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Refuse control characters and halves of characters, in keys and values."""
        node: yaml.ScalarNode = super().compose_scalar_node(anchor)
        try:
            node.value = text_of(node.value)
        except ValueError as error:
            raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from error
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that readers of YAML 1.1 or 1.2 would not read as text."""

    def ignore_aliases(self, data: object) -> bool:
        """Write repeated values in full, so that users can edit the file."""
        return True


# Beginning of a message of YAML's reader -> message of this package; the first that fits.
_PROBLEMS = {
    "found character '\\t'": "there is a tab here, but YAML allows only spaces",
    "found character": "no text can begin with this character, unless the text is in quotes",
    "but found another document": "a second document begins here, after '---', but a file holds one",
    "expected '<document start>'": "this does not go on from what is above; a YAML file holds keys with values"
    " (key: value)",
    "expected the node content, but found '<stream end>'": "the text ends where a value must follow",
    "expected <block end>, but found ']'": "there is a ']' too many here",
    "expected <block end>, but found '}'": "there is a '}' too many here",
    "expected <block end>": "this does not continue what is above: it is in another column, or is an item among keys",
    "expected ',' or '}'": "a ',' or '}' is missing before this place",
    "expected ',' or ']'": "a ',' or ']' is missing before this place",
    "mapping values are not allowed here": "no ':' can be here: the key above lacks its ':', keys are not in one"
    " column, or a text with ': ' is not in quotes",
    "could not find expected ':'": "the line before this place has a key without a ':'",
    "found unexpected end of stream": "the text ends inside quotes that are not closed",
    "found unknown escape character": "in double quotes '\\' begins an escape, and this one is unknown",
}
_TOO_DEEP = f"more than {MOST_DEPTH} levels of lists and mappings are nested here"


def text_of(text: str) -> str:
    """Return a text in which surrogate pairs are joined to characters.

    Raises:
        ValueError: the text contains half a character, or a control character other than a tab or the end of a line.
    """
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "\N{REPLACEMENT CHARACTER}" in text:
            raise ValueError("the text holds half a character (a surrogate without its pair)")
    if found := _CONTROL.search(text):
        raise ValueError(f"the text holds the control character U+{ord(found[0]):04X}")
    return text


def parse(text: str, where: str) -> Parsed:
    """Read a text that contains one YAML document.

    Args:
        text: the text.
        where: the name of the text in messages, such as the file's path.

    Raises:
        InputError: the text is not YAML, repeats a key, or uses a refused feature (see the module).
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Parsed(None, {})
        _measure(node, {})
        data = loader.construct_document(node)
        return Parsed(data, dict(_lines(node, ())))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{where}{place}: {_in_words(error.problem)}; correct the YAML there") from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{where}:{line}: the text holds the character U+{error.character:04X}; remove it") from error
    finally:
        if loader is not None:
            loader.dispose()


def _in_words(problem: str | None) -> str:
    """Return a message of YAML's reader in plain words."""
    text = str(problem)
    return next((words for start, words in _PROBLEMS.items() if text.startswith(start)), text)


def dump(document: Mapping[str, object]) -> str:
    """Write plain data as YAML that `parse` reads back to the same data, in the same order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


@dataclass(frozen=True)
class _Measure:
    """The height of the tree below a node, and the number of its values, with aliases expanded and as written."""

    height: int
    whole: int
    written: int


def _measure(node: yaml.Node, known: dict[int, _Measure | None]) -> _Measure:
    """Refuse aliases that multiply or nest before they are expanded: a few lines can mean millions of values."""
    if id(node) in known:
        found = known[id(node)]
        if found is None:
            raise ConstructorError(problem="an alias is inside the value that it repeats", problem_mark=node.start_mark)
        return _Measure(found.height, found.whole, 0)
    known[id(node)] = None
    below = [_measure(inner, known) for inner in _inner(node)]
    height = 1 + max((part.height for part in below), default=0)
    whole, written = (1 + sum(getattr(part, key) for part in below) for key in ("whole", "written"))
    if height > MOST_DEPTH:
        raise ConstructorError(problem=_TOO_DEEP, problem_mark=node.start_mark)
    if whole - written > MOST_REPEATED:
        problem = f"aliases repeat more than {MOST_REPEATED} values"
        raise ConstructorError(problem=problem, problem_mark=node.start_mark)
    measure = known[id(node)] = _Measure(height, whole, written)
    return measure


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _lines(node: yaml.Node, keys: Keys) -> Iterator[tuple[Keys, int]]:
    named: list[tuple[str, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        named = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        named = [(str(number), item, item) for number, item in enumerate(node.value)]
    for name, first, value in named:
        yield (*keys, name), first.start_mark.line + 1
        yield from _lines(value, (*keys, name))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Document:
    _refuse_bad_keys(node)
    loader.flatten_mapping(node)
    # Keys from `<<` come first, so the mapping's own keys override them.
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _refuse_bad_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConstructorError(problem="a key must be a word", problem_mark=key.start_mark)
        if key.value in seen:
            problem = f"the key '{key.value}' is given a second time"
            raise ConstructorError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def _integer(text: str) -> int:
    # For thousands of digits Python would raise its own error.
    number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) < 100 else None
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError("the integer has more than 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if math.isinf(number) and "inf" not in text.lower():
        raise ValueError("the number is larger than 1.8e308, the largest that a float holds")
    return number


def _scalar(convert: Callable[[str], object]) -> Callable[[_Loader, yaml.ScalarNode], object]:
    """Make a constructor for PyYAML from a conversion; a text may not fit an explicit tag (``!!int x``)."""

    def construct(loader: _Loader, node: yaml.ScalarNode) -> object:
        text = loader.construct_scalar(node)
        try:
            return convert(text)
        except ValueError as error:
            raise ConstructorError(problem=str(error), problem_mark=node.start_mark) from error

    return construct


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list[object]:
    return loader.construct_sequence(node, deep=True)


def _unknown_tag(loader: _Loader, node: yaml.Node) -> object:
    raise ConstructorError(problem=f"the tag '{node.tag}' is not supported", problem_mark=node.start_mark)


def _teach_core_schema() -> None:
    for name, (pattern, first) in _SCALARS.items():
        _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", pattern, first)
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    constructors: dict[str, Callable[[_Loader, Any], object]] = {
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
