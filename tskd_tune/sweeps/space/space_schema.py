"""The JSON Schema of a search space: the schema of an experiment whose values may be domains."""

from __future__ import annotations

from tskd_tune.experiment.networks import Teacher
from tskd_tune.plain import Document
from tskd_tune.sweeps.space.teacher_seeds import KEY, MEANING, seeds_schema

Schema = Document
OF_TEACHERS = frozenset(Teacher.model_fields)
DOMAIN_MEANINGS = {
    "choice": "one of a list of values, or of a mapping of labels to values",
    "grid": "each of a list of values, or of a mapping of labels to values; for the search grid only",
    "int": "an integer of [low, high] or [low, high, step], both ends included",
    "uniform": "a number of [low, high]",
    "loguniform": "a number of [low, high], evenly on a logarithmic scale",
}


def space_schema(experiment_schema: Schema) -> Schema:
    """Return the JSON Schema of a search space, given the schema of an experiment.

    Every property may also be a domain, every mapping may have a ``choice`` or a ``grid`` beside its keys, no key is
    required, and the root may have the key ``extends``. References stay ``#/$defs/...``: if the result becomes part of
    a larger schema, move its ``$defs`` to the root of the larger schema.
    """
    schema = _holed_mapping(experiment_schema)
    schema["title"] = "SearchSpace"
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "a file, beside this one or among the package's experiments, that fills what is not set here",
    }
    schema["$defs"] = {**_with_teacher_seeds(schema.get("$defs", {})), **_domain_schemas()}
    return schema


def _with_teacher_seeds(definitions: Schema) -> Schema:
    """Add the sweep's key ``seeds`` to every network that can be a teacher."""
    seeds = {"description": MEANING, **seeds_schema()}
    return {
        name: {**part, "properties": {**part["properties"], KEY: seeds}}
        if part.get("properties", {}).keys() >= OF_TEACHERS
        else part
        for name, part in definitions.items()
    }


def _holed_schema(schema: object) -> object:
    if isinstance(schema, list):
        return [_holed_schema(part) for part in schema]
    return _holed_mapping(schema) if isinstance(schema, dict) else schema


def _holed_mapping(schema: Schema) -> Schema:
    holed: Schema = {
        # A component without a name fits several alternatives, so `oneOf` would refuse the component.
        {"oneOf": "anyOf"}.get(key, key): _holed_keyword(key, part)
        for key, part in schema.items()
        if key not in ("required", "discriminator")
    }
    if "properties" in schema:
        holed["properties"] |= {word: {"$ref": f"#/$defs/{word}"} for word in ("choice", "grid")}
    return holed


def _holed_keyword(key: str, part: object) -> object:
    if key == "properties" and isinstance(part, dict):
        return {name: _holed_property(inner) for name, inner in part.items()}
    if key == "$defs" and isinstance(part, dict):
        return {name: _holed_schema(inner) for name, inner in part.items()}
    if key in ("anyOf", "oneOf", "allOf", "items", "prefixItems", "additionalProperties"):
        return _holed_schema(part)
    return part


def _holed_property(schema: Schema) -> Schema:
    """Allow a domain in place of a value; the description stays where editors look for it."""
    meaning = {"description": schema["description"]} if "description" in schema else {}
    return {**meaning, "anyOf": [_holed_schema(schema), {"$ref": "#/$defs/domain"}]}


def _domain_schemas() -> Schema:
    listed = {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean", "null"]}}
    choice = {"anyOf": [listed, {"type": "object", "minProperties": 1}]}
    ends = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
    steps = {"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "integer"}}
    forms: dict[str, Schema] = {"choice": choice, "grid": choice, "int": steps, "uniform": ends, "loguniform": ends}
    forms = {word: {"description": DOMAIN_MEANINGS[word], **form} for word, form in forms.items()}
    alone = [
        {
            "type": "object",
            "properties": {word: form},
            "required": [word],
            "additionalProperties": word in ("choice", "grid"),
        }
        for word, form in forms.items()
    ]
    return {"choice": forms["choice"], "grid": forms["grid"], "domain": {"anyOf": alone}}
