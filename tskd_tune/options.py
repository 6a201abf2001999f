"""Groups of options: frozen and strict, with one sentence per mistake."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from tskd_tune.errors import did_you_mean, shown
from tskd_tune.plain import Document


class NoIdentity:
    """Marks an option that changes no number of a training, such as the device: ``Annotated[str, NO_IDENTITY]``."""


NO_IDENTITY: Final = NoIdentity()


@dataclass(frozen=True)
class WasDefault:
    """Marks an option whose default was another one: ``Annotated[bool, WasDefault(False)]``.

    Attributes:
        value: the first default. Digests leave out this value, as they always did, and include the default of today.
    """

    value: object


class Distinct:
    """Refuses a list that has an item twice, and says so in the JSON Schema: ``Annotated[list[int], DISTINCT]``."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse the list after its items were read, so that ``kd`` and ``{name: kd}`` are the same item."""
        return core_schema.no_info_after_validator_function(_refuse_twice, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Document:
        """Describe a list of different items."""
        return {**handler(schema), "uniqueItems": True}


DISTINCT: Final = Distinct()
T = TypeVar("T")


def _refuse_twice(items: list[T]) -> list[T]:
    """Return a list of different items; raise an error that names the first item that is there twice."""
    seen: set[str] = set()
    for item in items:
        plain = item.plain() if isinstance(item, Options) else item
        key = json.dumps(plain, sort_keys=True, default=str)
        if key in seen:
            name = getattr(item, "name", None)
            raise ValueError(f"lists {shown(plain if name is None else name)} twice; keep one of them")
        seen.add(key)
    return items


class Strict(BaseModel):
    """A frozen group of fields that converts no types and refuses unknown keys; a trailing underscore is dropped."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        alias_generator=lambda name: name.removesuffix("_"),
    )


class Options(Strict):
    """A frozen, strict group of options; an error names the nearest known key, or an example of a missing one."""

    model_config = ConfigDict(allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: object) -> object:
        if isinstance(value, dict):
            known = {field.alias or name for name, field in cls.model_fields.items()}
            unknown = [key for key in value if key not in known and key not in cls.model_fields]
            if unknown:
                raise ValueError(f"unknown key '{unknown[0]}'{cls._hint(str(unknown[0]), known)}")
            if missing := [line for name in cls.model_fields if (line := cls._missing(name, value))]:
                raise ValueError("\n".join(missing))
        return value

    @classmethod
    def _missing(cls, name: str, given: Collection[str]) -> str:
        """Return a sentence with an example if a required field is missing; otherwise an empty text."""
        field = cls.model_fields[name]
        key = field.alias or name
        if not field.is_required() or name in given or key in given:
            return ""
        write = f"write for example {_in_yaml(key, field.examples[0])}" if field.examples else field.description
        return f"{key}: is required but missing{f'; {write}' if write else ''}"

    @classmethod
    def _hint(cls, key: str, known: set[str]) -> str:
        """Return which key the user may have meant by an unknown key."""
        return did_you_mean(key, known)

    def plain(self) -> Document:
        """Return the options as plain data, with the names and the order of the YAML."""
        return self.model_dump(mode="json", by_alias=True, serialize_as_any=True)


class Derived(Options):
    """Options that were derived from the signature of a factory."""

    derived: ClassVar[frozenset[str]] = frozenset()

    def options(self) -> dict[str, Any]:
        """Return the factory's own options, by parameter name, without the options of the slot."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.derived}


class Component(Derived):
    """A component by name, with options; the base class of every model that a registry derives."""

    name: str


def _in_yaml(key: str, value: object) -> str:
    """Write a key with its value in a line of YAML."""
    text = yaml.safe_dump({key: value}, default_flow_style=True, sort_keys=False, width=1000)
    return text.strip().removeprefix("{").removesuffix("}")
