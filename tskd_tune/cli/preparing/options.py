"""Options in words: key, meaning, allowed values and default, taken from a model and its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tskd_tune.registry import ONE_OF, Component, Options

REQUIRED = "required"
OR = " or "
# The longest pattern that is shown. A longer pattern explains nothing; the option's meaning explains the values.
LONGEST_PATTERN = 12
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """One option in words.

    Attributes:
        key: the option's name in YAML.
        meaning: the meaning of the option, with its unit, and the meaning of null.
        values: the allowed values, such as ``integer from 1 or null``.
        default: the default as YAML, or ``required``.
    """

    key: str
    meaning: str
    values: str
    default: str

    def plain(self) -> dict[str, str]:
        """Return the attributes by their names."""
        return asdict(self)


def options_of(model: type[BaseModel], *, but: type[BaseModel] | None = None) -> list[Option]:
    """Return the options of a model in order, without a component's ``name`` and without the options of ``but``."""
    schema = model.model_json_schema(by_alias=True)
    hidden = {"name", *(but.model_fields if but else ())}
    return [
        _option(field.alias or name, field, schema["properties"][field.alias or name], schema.get("$defs", {}))
        for name, field in model.model_fields.items()
        if name not in hidden
    ]


def _option(key: str, field: FieldInfo, schema: Schema, parts: Schema) -> Option:
    default = REQUIRED if field.is_required() else _text(field.get_default(call_default_factory=True))
    return Option(key, field.description or "", in_words(schema, parts), default)


def in_words(schema: Schema, parts: Schema) -> str:
    """Say which values a JSON Schema allows; ``parts`` are the definitions that the schema refers to."""
    if schema.get("$comment", "").startswith(ONE_OF):
        return str(schema["$comment"])
    if "$ref" in schema:
        return in_words(parts[schema["$ref"].rpartition("/")[2]], parts)
    if "allOf" in schema:
        return in_words(schema["allOf"][0], parts)
    if "anyOf" in schema or "oneOf" in schema:
        forms = schema.get("anyOf") or schema["oneOf"]
        words = [word for form in forms for word in in_words(form, parts).split(OR)]
        return OR.join(dict.fromkeys(words))
    if "const" in schema or "enum" in schema:
        return ", ".join(_text(value) for value in schema.get("enum", [schema.get("const")]))
    return _typed(schema, parts)


def _typed(schema: Schema, parts: Schema) -> str:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return f"{kind}{_bounds(schema)}"
    if kind == "array":
        return f"list of {in_words(schema.get('items', {}), parts)}"
    if kind == "object":
        return _mapping(schema, parts)
    if kind == "string":
        pattern = schema.get("pattern", "")
        return f"text that matches {pattern}" if 0 < len(pattern) <= LONGEST_PATTERN else "text"
    return {"boolean": "true or false", "null": "null"}.get(str(kind), "any value")


def _bounds(schema: Schema) -> str:
    if schema["type"] == "integer" and "exclusiveMinimum" in schema:
        schema = {**schema, "minimum": schema["exclusiveMinimum"] + 1, "exclusiveMinimum": None}
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {_text(schema[key])}" for key, word in words.items() if schema.get(key) is not None)


def _mapping(schema: Schema, parts: Schema) -> str:
    keys = schema.get("properties", {})
    if len(keys) == 1:
        return f"{{{', '.join(f'{key}: {in_words(value, parts)}' for key, value in keys.items())}}}"
    values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    return "mapping" if keys or not isinstance(values, Mapping) else f"mapping of labels to {in_words(values, parts)}"


def _text(value: object) -> str:
    """Return a value as YAML; a component is written as its name, and a group of options as a word."""
    if isinstance(value, Component):
        return value.name
    if isinstance(value, Options):
        return "the defaults of its options"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
