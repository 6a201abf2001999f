"""Reads the annotations of a component's signature, and lets plain data stand for types that YAML cannot write.

Only the annotations that are needed are evaluated: the others may name what is imported for type checkers alone.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

# Types whose values YAML writes as text, numbers, lists or mappings.
_WRITTEN = {
    "bytes",
    "complex",
    "dataclass",
    "date",
    "datetime",
    "decimal",
    "enum",
    "time",
    "timedelta",
    "tuple",
    "url",
    "uuid",
}


def read_hints(function: Callable[..., object], names: Collection[str]) -> dict[str, Any]:
    """Return the types of some parameters of a function, by name, and of its result, whose name is ``return``.

    Args:
        function: a function; a constructor is given as ``Class.__init__``.
        names: the parameters; one without an annotation is left out.

    Raises:
        Exception: an annotation is a text that cannot be evaluated, such as an unknown name.
    """
    inner = inspect.unwrap(function)
    written = {name: hint for name, hint in getattr(inner, "__annotations__", {}).items() if name in names}
    # Read in the module of the function: a constructor may be inherited from another module.
    place = getattr(inner, "__globals__", {})
    return typing.get_type_hints(SimpleNamespace(__annotations__=written), globalns=place, include_extras=True)


def mentions(hint: object, *kinds: type) -> bool:
    """Tell whether a type is one of some classes or a subclass of one, such as ``list[Path]`` for a path."""
    found = typing.get_origin(hint) or hint
    if inspect.isclass(found) and issubclass(found, kinds):
        return True
    return any(mentions(inner, *kinds) for inner in typing.get_args(hint))


class Written:
    """Reads an option from what YAML has for it: an Enum from its value, a tuple from a list, a date from text.

    Types are strict, so that no text becomes a number. Strict types refuse the plain form of these types too.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read as the type does, but take the plain form of values that YAML cannot write."""
        schema = handler(source)
        _loosen(schema, handler, set())
        return schema


WRITTEN = Written()


def _loosen(schema: Any, handler: GetCoreSchemaHandler, seen: set[int]) -> None:
    """Change, in place, the parts of a schema whose values YAML cannot write; a model of Pydantic has its own rules."""
    if isinstance(schema, list | tuple):
        for item in schema:
            _loosen(item, handler, seen)
    if not isinstance(schema, dict) or schema.get("type") == "model" or id(schema) in seen:
        return
    seen.add(id(schema))
    if schema.get("type") == "definition-ref":
        _loosen(handler.resolve_ref_schema(cast("CoreSchema", schema)), handler, seen)
        return
    if schema.get("type") in _WRITTEN:
        schema["strict"] = False
    for key, inner in list(schema.items()):
        if key not in ("serialization", "metadata"):
            _loosen(inner, handler, seen)
