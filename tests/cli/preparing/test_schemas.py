"""The JSON Schemas accept what the package reads, and refuse what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tskd_tune import documents
from tskd_tune.cli.preparing.schemas import Form, json_schema
from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.declared.schema import Sweep

SPACES = sorted((Path(__file__).parents[3] / "search_spaces").glob("**/*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Callable[[Form], Any]:
    made = {form: jsonschema.Draft202012Validator(json_schema(form)) for form in ("experiment", "sweep")}
    return lambda form: made[form]


@pytest.fixture
def sweep(tiny_document: dict[str, Any]) -> dict[str, Any]:
    return {"experiment": tiny_document, "seeds": [1, 2], "search": {"name": "grid"}}


@pytest.mark.parametrize("form", ["experiment", "sweep"])
def test_the_schema_is_one_and_whole(form: Form) -> None:
    schema = json_schema(form)
    jsonschema.Draft202012Validator.check_schema(schema)

    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for inner in part.values() for found in references(inner)]
        return [found for inner in part for found in references(inner)] if isinstance(part, list) else []

    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} <= schema["$defs"].keys()


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.name)
def test_every_search_space_that_is_shipped_fits(path: Path, validator: Callable[[Form], Any]) -> None:
    document = documents.read(path)
    form: Form = "sweep" if "experiment" in document else "experiment"
    assert list(validator(form).iter_errors(document)) == []


def test_what_the_package_writes_fits(
    tiny: Callable[..., Experiment], sweep: dict[str, Any], validator: Callable[[Form], Any]
) -> None:
    for preset in ("paper", "official", "paper_literal"):
        validator("experiment").validate(tiny(preset=preset, distiller={"name": "kd"}).plain())
    validator("experiment").validate(tiny(review=None).plain())
    validator("experiment").validate({"extends": "base.yaml", "seed": 3})
    validator("sweep").validate(Sweep.read(sweep).plain())
    validator("sweep").validate({"extends": "base.yaml", "seeds": [1]})


@pytest.mark.parametrize(
    "over",
    [
        {"task": None},
        {"sed": 1},
        {"seed": -1},
        {"student": {"name": "resnet9"}},
        {"training": {"epochs": 0}},
        {"training": {"epochs": "240"}},
        {"review": {"k": {"choice": [1, 2]}}},
        {"review": {"lambda": {"auto": "a tenth"}}},
        {"review": {"extractor": {"name": "conv_lstm", "peephole": "some"}}},
    ],
)
def test_a_wrong_experiment_does_not_fit(
    over: dict[str, Any], tiny_document: dict[str, Any], validator: Callable[[Form], Any]
) -> None:
    validator("experiment").validate(tiny_document)
    assert not validator("experiment").is_valid(documents.merge(tiny_document, over))


@pytest.mark.parametrize(
    "review",
    [
        {"k": {"choice": [1, 2]}},
        {"delta": {"int": [1, 5]}},
        {"lambda": {"loguniform": [0.1, 10]}},
        {"choice": {"a": {"k": 1}, "b": {"k": 2}}},
        {"extractor": {"choice": {"lstm": {"name": "conv_lstm"}, "line": {"name": "linear"}}}},
    ],
)
def test_holes_fit_into_a_sweep_only(
    review: dict[str, Any], sweep: dict[str, Any], validator: Callable[[Form], Any]
) -> None:
    holed = documents.merge(sweep, {"experiment": {"review": review}})
    validator("sweep").validate(holed)
    assert not validator("experiment").is_valid(holed["experiment"])


@pytest.mark.parametrize(
    "over",
    [
        {"search": {"name": "optuna"}},
        {"search": {"name": "grid", "metric": "test_top1"}},
        {"seeds": [-1]},
        {"resources": {"cpu": 0}},
        {"experiment": {"review": {"delta": {"int": [1]}}}},
        {"experiment": {"training": {"epoch": 3}}},
        {"max_failure": 2},
    ],
)
def test_a_wrong_sweep_does_not_fit(
    over: dict[str, Any], sweep: dict[str, Any], validator: Callable[[Form], Any]
) -> None:
    validator("sweep").validate(sweep)
    assert not validator("sweep").is_valid(documents.merge(copy.deepcopy(sweep), over))


def test_a_name_alone_stands_for_a_component(tiny_document: dict[str, Any], validator: Callable[[Form], Any]) -> None:
    short = {**tiny_document, "student": "resnet8", "distiller": "kd"}
    assert Experiment.read(copy.deepcopy(short)).distiller.name == "kd"
    validator("experiment").validate(short)
