"""A slot, which is a field for a component: how the value is read, and how JSON Schema describes it."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from tskd_tune import outside
from tskd_tune.errors import shown
from tskd_tune.options import Component
from tskd_tune.plain import Document

# The comment in a component's JSON Schema, before the kind.
ONE_OF = "one of the "


class Components(Protocol):
    """The methods of a registry that a slot needs."""

    kind: str

    def names(self) -> Sequence[str]:
        """Return every known name."""

    def options(self, name: str, slot: type[Component]) -> type[Component]:
        """Return the model of a component's options and the slot's own options."""


class Slot:
    """Tells Pydantic how to read a component of a registry, and to describe it in JSON Schema."""

    def __init__(self, registry: Components, base: type[Component], without: str | None) -> None:
        """Make a slot for the components of ``registry`` except ``without``; ``base`` has the slot's own options."""
        self.registry = registry
        self.base = base
        self.without = without

    def parse(self, value: object) -> Component:
        """Read a name, a mapping with a name, or a component that was already read."""
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            known = ", ".join(name for name in self.registry.names() if name != self.without)
            raise ValueError(
                f"must be a mapping with a 'name' out of the {self.registry.kind}, got {shown(value)}; known: {known}"
            )
        if value["name"] == self.without:
            raise ValueError(f"'{self.without}' cannot contain another one; list the parts of the inner one here")
        name = outside.whole_name(value["name"])
        return self.registry.options(name, self.base).model_validate({**value, "name": name})

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read with `parse`, write as plain data."""
        plain = core_schema.plain_serializer_function_ser_schema(lambda component: component.plain())
        return core_schema.no_info_plain_validator_function(self.parse, serialization=plain)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Document:
        """Describe one mapping per registered name, the name alone, and components of other packages."""
        names = [name for name in self.registry.names() if name != self.without]
        models = [self.registry.options(name, self.base) for name in names]
        union: typing.Any = typing.Union[tuple(models)]  # noqa: UP007 (made from a list that is known at run time only)
        imported = {"type": "string", "pattern": ":"}
        # A mapping with an imported name; without `required`, because the schema of search spaces drops `required`.
        outsider = {"type": "object", "not": {"properties": {"name": {"not": imported}}}}
        forms = [handler(TypeAdapter(union).core_schema), {"enum": names}, imported, outsider]
        return {"$comment": f"{ONE_OF}{self.registry.kind}", "anyOf": forms}
