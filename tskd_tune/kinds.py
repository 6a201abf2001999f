"""Checks, without a call, whether an object that was imported by name is a component of a kind."""

from __future__ import annotations

import inspect
import typing


def misfit(factory: object, base: object) -> str | None:
    """Return why a factory does not make components of a kind; None if it does.

    Args:
        factory: the imported object: a class, or a function with an annotated return type.
        base: the class, or the generic type such as ``tuple[Any, int]``, of components of the kind. A class whose
            import would be slow is given by name.
    """
    if inspect.isclass(factory):
        if not _is_a(factory, base):
            return f"it is the class {factory.__qualname__}, which is no subclass of {_name(base)}"
        missing = sorted(getattr(factory, "__abstractmethods__", ()))
        return f"it is an abstract class; define {', '.join(missing)} in a subclass" if missing else None
    if not callable(factory):
        return f"it is a value of the type {type(factory).__name__}, not a class or a function"
    try:
        given = typing.get_type_hints(factory).get("return")
    except Exception as error:  # an annotation may be any text
        return f"its annotations cannot be read ({error})"
    if given is None:
        return f"it is a function that does not say what it returns; annotate it with -> {_name(base)}"
    return None if _is_a(given, base) else f"it is a function that returns {_name(given)}, not {_name(base)}"


def _is_a(given: object, base: object) -> bool:
    if isinstance(base, str):
        return given is typing.Any or base in [parent.__name__ for parent in getattr(given, "__mro__", ())]
    expected, found = typing.get_origin(base) or base, typing.get_origin(given) or given
    return inspect.isclass(found) and inspect.isclass(expected) and issubclass(found, expected)


def _name(kind: object) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
