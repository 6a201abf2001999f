"""Reads the annotations of a component's signature, and lets plain data stand for types that YAML cannot write.

Only the annotations that are needed are evaluated: the others may name what is imported for type checkers alone.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any, cast

from pydantic import GetCoreSchemaHandler, SerializerFunctionWrapHandler
from pydantic_core import CoreSchema, core_schema

# Types whose values YAML writes as text, numbers, lists or mappings.
_WRITTEN = {
    "bytes",
    "complex",
    "dataclass",
    "date",
    "datetime",
    "decimal",
    "enum",
    "frozenset",
    "set",
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


def names_a_path(hint: object) -> bool:
    """Tell whether a type is a path of `pathlib`, or contains one."""
    if inspect.isclass(hint) and typing.get_origin(hint) is None:
        return issubclass(hint, PurePath)
    return any(map(names_a_path, typing.get_args(hint)))


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
    if schema.get("type") in ("set", "frozenset"):
        schema["serialization"] = core_schema.wrap_serializer_function_ser_schema(_in_order, when_used="json")
    for key, inner in list(schema.items()):
        if key not in ("serialization", "metadata"):
            _loosen(inner, handler, seen)


def _in_order(items: Iterable[object], handler: SerializerFunctionWrapHandler) -> list[object]:
    """Write a set as a sorted list: the order of a set differs between processes, and digests are made of the list."""
    return sorted(handler(items), key=lambda item: json.dumps(item, sort_keys=True))
