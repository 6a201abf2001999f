"""Every option explains itself: in the JSON Schema, in `list KIND NAME` and in the reference, which is current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.cli.preparing.listing import REGISTRIES, explained
from tskd_tune.cli.preparing.schemas import Form, json_schema
from tskd_tune.cli.reference import reference

COMPONENTS = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]


def options_in(schema: Any, definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Find path, key and description of every property; what stands under `not` is a condition, no option."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from options_in(part, definitions, f"{path}/{number}")
    if not isinstance(schema, dict):
        return
    for key, value in schema.get("properties", {}).items():
        target = definitions.get(value.get("$ref", "").rpartition("/")[2], {})
        yield f"{path}/{key}", key, value.get("description") or target.get("description") or ""
    for key, value in schema.items():
        if key == "properties":
            for name, inner in value.items():
                yield from options_in(inner, definitions, f"{path}/{name}")
        elif key != "not":
            yield from options_in(value, definitions, f"{path}/{key}")


@pytest.mark.parametrize("form", ["experiment", "sweep"])
def test_every_option_of_the_schema_has_a_meaning(form: Form):
    schema = json_schema(form)
    found = list(options_in(schema, schema["$defs"]))
    assert len(found) > 300
    assert [path for path, key, meaning in found if len(meaning.replace(key, "").split()) < 2] == []


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_every_option_of_a_component_has_a_meaning_values_and_a_default(kind: str, name: str):
    for options in explained(REGISTRIES[kind], name).values():
        for option in options:
            assert len(option.meaning.split()) > 2, option
            assert option.default
            assert option.values not in ("", "any value"), option


def test_every_component_has_a_summary():
    assert [entry.name for registry in REGISTRIES.values() for entry in registry if not entry.summary] == []


def test_the_reference_is_current():
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text() == reference() + "\n", "run: python -m tskd_tune.cli.reference > docs/options.md"
