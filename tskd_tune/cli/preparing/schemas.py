"""The JSON Schemas of the two kinds of YAML files, with which an editor completes and checks a file."""

from __future__ import annotations

from typing import Literal

from tskd_tune.experiment import Experiment
from tskd_tune.plain import Document
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.space_schema import space_schema

Form = Literal["experiment", "sweep"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENDS = {
    "type": "string",
    "description": "a file, beside this one or among the package's experiments, that fills what is not set here",
}


def json_schema(form: Form) -> Document:
    """Return the complete schema of a kind of YAML file, without references to other documents."""
    schema = _experiment() if form == "experiment" else _sweep()
    return {"$schema": DIALECT, **schema}


def _experiment() -> Document:
    return _extensible(Experiment.model_json_schema(by_alias=True))


def _sweep() -> Document:
    schema = Sweep.model_json_schema(by_alias=True)
    space = space_schema(Experiment.model_json_schema(by_alias=True))
    # A sweep and a search space may define models with the same name, so the space's definitions are renamed.
    inner = {f"space_{name}": _renamed(part) for name, part in space.pop("$defs").items()}
    schema["properties"]["experiment"] = _renamed(space)
    schema["$defs"] = {**schema.get("$defs", {}), **inner}
    return _extensible(schema)


def _renamed(part: object) -> object:
    """Change the references of a search space to the new names of its definitions."""
    if isinstance(part, list):
        return [_renamed(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {
        key: value.replace("#/$defs/", "#/$defs/space_")
        if key == "$ref" and isinstance(value, str)
        else _renamed(value)
        for key, value in part.items()
    }


def _extensible(schema: Document) -> Document:
    """Allow ``extends`` at the root; a file with ``extends`` may leave out the keys that the other file gives."""
    required = schema.pop("required", [])
    schema["properties"]["extends"] = EXTENDS
    return {**schema, "anyOf": [{"required": ["extends"]}, {"required": required}]}
