"""Checks, without a call, whether an object that was imported by name is a component of a kind."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Set
from enum import StrEnum

from tskd_tune.errors import InputError, shown
from tskd_tune.hints import read_hints

N = typing.TypeVar("N", bound=StrEnum)


def misfit(factory: object, base: object) -> str | None:
    """Return why a factory does not make components of a kind; None if it does.

    Args:
        factory: the imported object: a class, or a function with an annotated return type.
        base: the class, or the generic type such as ``tuple[Any, int]``, of components of the kind. A class whose
            import would be slow is given by name.
    """
    if inspect.isclass(factory):
        if not _is_a(factory, base):
            return f"it is the class {factory.__qualname__}, which is no subclass of {name_of(base)}"
        missing = sorted(getattr(factory, "__abstractmethods__", ()))
        return f"it is an abstract class; define {', '.join(missing)} in a subclass" if missing else None
    if not callable(factory):
        return f"it is a value of the type {type(factory).__name__}, not a class or a function"
    try:
        given = read_hints(factory, ["return"]).get("return")
    except Exception as error:  # an annotation may be any text
        return f"the annotation of what it returns cannot be read ({error}); annotate it with -> {name_of(base)}"
    if given is None:
        return f"it is a function that does not say what it returns; annotate it with -> {name_of(base)}"
    return None if _is_a(given, base) else f"it is a function that returns {name_of(given)}, not {name_of(base)}"


def made_by(factory: object) -> type | None:
    """Return the class that a factory makes: the class itself, or the one that a function says to return.

    None where a function says nothing that is a class.
    """
    if inspect.isclass(factory):
        return factory
    try:
        given = read_hints(factory, ["return"]).get("return") if callable(factory) else None
    except Exception:  # an annotation may be any text; `misfit` refuses it
        return None
    found = typing.get_origin(given) or given
    return found if inspect.isclass(found) else None


def made_fits(made: object, base: object) -> bool:
    """Tell whether what a factory made is of a kind; of a generic type of tuples, whether it has as many items.

    Args:
        made: what the factory made.
        base: as `misfit` takes it.
    """
    if isinstance(base, str):
        return _is_a(type(made), base)
    expected = typing.get_origin(base) or base
    if not inspect.isclass(expected) or not isinstance(made, expected):
        return False
    items = typing.get_args(base) if isinstance(made, tuple) else ()
    return not isinstance(made, tuple) or not items or len(made) == len(items)


def _is_a(given: object, base: object) -> bool:
    if isinstance(base, str):
        return given is typing.Any or base in [parent.__name__ for parent in getattr(given, "__mro__", ())]
    expected, found = typing.get_origin(base) or base, typing.get_origin(given) or given
    return inspect.isclass(found) and inspect.isclass(expected) and issubclass(found, expected)


def name_of(kind: object) -> str:
    """Return the name of a class or of a generic type."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))


def read_needs(needs: object, kind: type[N], where: str) -> frozenset[N]:
    """Return the needs of a component, of which each is of a kind; ``where`` begins the message.

    Raises:
        InputError: they are something else, such as a text, of which each letter would be a need.
    """
    known = [str(need) for need in kind]
    if isinstance(needs, Set) and all(isinstance(need, str) and need in known for need in needs):
        return frozenset(kind(need) for need in needs)
    raise InputError(
        f"{where} has needs = {shown(needs)}, but they must be a set out of {', '.join(known)}; write for example"
        f" needs = frozenset({{Need.{next(iter(kind)).name}}})"
    )
