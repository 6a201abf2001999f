"""Each required option of the package has an example, which the error shows where the option is missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter

from tskd_tune.cli.preparing.listing import REGISTRIES
from tskd_tune.options import Component, Options
from tskd_tune.sweeps.declared.schema import Sweep


def written(model: type[Options]) -> Iterator[type[Options]]:
    """Yield the groups of options that are written as classes of the package."""
    for inner in model.__subclasses__():
        if inner.__module__.startswith("tskd_tune.") and inner.__module__ != "tskd_tune.signatures":
            yield inner
        yield from written(inner)


def models() -> list[type[Options]]:
    derived = [registry.options(name) for registry in REGISTRIES.values() for name in registry.names()]
    return list(dict.fromkeys([Sweep, *written(Options), *derived]))


REQUIRED = [
    (model, name)
    for model in models()
    for name, field in model.model_fields.items()
    if field.is_required() and not (name == "name" and issubclass(model, Component))  # its slot lists the names
]


def test_the_required_options_are_found() -> None:
    found = {(model.__name__, name) for model, name in REQUIRED}
    assert {("Sweep", "search"), ("Sweep", "experiment"), ("Experiment", "task"), ("Optuna", "trials")} <= found


@pytest.mark.parametrize(("model", "name"), REQUIRED, ids=str)
def test_a_required_option_has_an_example_that_is_valid(model: type[Options], name: str) -> None:
    field = model.model_fields[name]
    assert field.examples, f"{model.__name__}.{name} has no example: Field(examples=[...])"
    for example in field.examples:
        TypeAdapter(field.rebuild_annotation()).validate_python(example)
