"""Derives options from signatures: the keyword-only parameters of a factory become a Pydantic model."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from tskd_tune.docstrings import meanings
from tskd_tune.errors import InputError, reason
from tskd_tune.hints import WRITTEN, mentions, read_hints
from tskd_tune.options import Component, Derived

M = TypeVar("M", bound=Derived)
Factory: TypeAlias = Callable[..., Any]
"""A class or a function that makes a component."""

Fields: TypeAlias = dict[str, Any]
"""Parameter -> annotation, or the definition of a Pydantic field."""


class Group:
    """Tells Pydantic to read a group of options from the signature of one factory, which has no alternatives."""

    def __init__(self, factory: Factory) -> None:
        """Derive the group from the keyword-only parameters of ``factory``."""
        self.model = derived_model(factory, factory.__name__, Derived, {})

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read and write as the derived model."""
        return handler.generate_schema(self.model)


@cache
def options_model(factory: Factory, name: str, slot: type[Component]) -> type[Component]:
    """Return the model of a component's options and the slot's own options.

    Raises:
        InputError: the signature cannot be read.
    """
    known = Field(name, description=first_line(factory) or f"the component {name}")
    try:
        return derived_model(factory, name, slot, {"name": (Literal[name], known)})
    except InputError:
        raise
    except Exception as error:  # annotations may be any text
        remedy = "annotate each keyword-only parameter with a type that Pydantic knows"
        if isinstance(error, NameError):
            remedy = "import the name at run time too, not only under TYPE_CHECKING"
        raise InputError(
            f"'{name}': its options cannot be read from its signature ({reason(error)}); {remedy}"
        ) from error


def derived_model(factory: Factory, name: str, base: type[M], fields: Fields) -> type[M]:
    """Return a model of the keyword-only parameters of a factory.

    Raises:
        InputError: a parameter has no annotation, is a set or a path of `pathlib`, or has a name that is taken.
    """
    parameters = inspect.signature(factory).parameters.values()
    own = [parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    hints, explained = _hints(factory, [parameter.name for parameter in own]), meanings(factory)
    options: Fields = {}
    for parameter in own:
        _refuse(parameter.name, hints, name, base)
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        known = parameter.name in explained  # otherwise the annotation may have the description
        described = Field(default, description=explained[parameter.name]) if known else Field(default)
        options[parameter.name] = (Annotated[hints[parameter.name], WRITTEN], described)
    model = create_model(_title(name), __base__=base, __doc__=first_line(factory) or name, **fields, **options)
    model.derived = frozenset(options)
    return model


def _refuse(option: str, hints: Fields, name: str, base: type[Derived]) -> None:
    """Refuse an option that no YAML file can give.

    Raises:
        InputError: with the option.
    """
    where = f"'{name}': the option '{option}'"
    if option not in hints:
        raise InputError(f"{where} has no annotation; give its type, as in {option}: float")
    if mentions(hints[option], set, frozenset):
        raise InputError(
            f"{where} is a set, whose order differs between processes, and the names of runs contain it; annotate the"
            " option as a list (Annotated[list[...], tskd_tune.registry.DISTINCT] refuses an item that is there twice)"
        )
    if mentions(hints[option], PurePath):
        raise InputError(
            f"{where} is a path of pathlib, which is relative to another folder in each process; annotate the option"
            " with tskd_tune.paths.PathText, which gives an absolute path as text"
        )
    # `small_cnn` has `batch_norm`, as teachers have; runs of old name it so.
    if option == "name" or (":" in name and option in base.model_fields):
        raise InputError(f"{where} has the name of a key that each component has here; give the option another name")
    if hasattr(base, option):
        raise InputError(
            f"{where} has a name that the group of options uses itself; call the parameter '{option}_', which YAML"
            f" writes as '{option}'"
        )


def first_line(factory: Factory) -> str:
    """Return the first line of a docstring; empty without one."""
    return (inspect.getdoc(factory) or "").partition("\n")[0]


def _hints(factory: Factory, names: Collection[str]) -> Fields:
    return read_hints(factory.__init__ if inspect.isclass(factory) else factory, names)


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[\W_]+", name))


class DescribedOption(typing.TypedDict):
    """An option of a component, as plain data."""

    description: str
    default: object
    required: bool


def option_defaults(model: type[Component]) -> dict[str, DescribedOption]:
    """Return every option by its key in YAML, as plain data."""
    schema = model.model_json_schema(by_alias=True)
    return {
        key: {
            "description": value.get("description", ""),
            "default": value.get("default"),
            "required": key in schema.get("required", ()),
        }
        for key, value in schema["properties"].items()
        if key != "name"
    }
