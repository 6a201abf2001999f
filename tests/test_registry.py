"""A registry derives options from signatures, and each mistake is a sentence."""

from __future__ import annotations

import sys
import types
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError

from tskd_tune.errors import InputError, sentences
from tskd_tune.registry import Component, Derived, Group, Options, Registry

SHAPES: Registry[object] = Registry("shapes")


@SHAPES.register("circle", source="Euclid, book 3")
class Circle:
    """A circle. And more.

    Args:
        radius: from the center, ``r`` in pixels,
            to the line.
    """

    needs = frozenset({"compass"})

    def __init__(self, place: str | None = None, *, radius: PositiveInt = 2, lambda_: float = 1.0) -> None:
        self.seen = (place, radius, lambda_)


@SHAPES.register("square", source="Euclid, book 1")
def square(place: str | None = None, *, side: PositiveInt, style: Literal["solid", "dashed"] = "solid") -> object:
    """A square."""
    return (place, side, style)


class Timing:
    """When."""

    def __init__(self, total: int, *, start: PositiveInt = 3) -> None:
        self.seen = (total, start)


class Placed(Component):
    """A shape with a place of its own."""

    layer: int = 0


TIMING = Group(Timing)


class Drawing(Options):
    """A drawing."""

    shape: Annotated[Placed, SHAPES.slot(Placed)]
    other: Annotated[Component, SHAPES.slot()] | None = None
    timing: Annotated[Derived, TIMING] = Field(default_factory=TIMING.model)


def mistakes(document: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(document)
    return sentences(caught.value)


def test_options_come_from_the_signature_and_make_the_component() -> None:
    drawing = Drawing.model_validate({"shape": {"name": "circle", "radius": 3, "lambda": 0.5, "layer": 4}})
    assert drawing.shape.layer == 4
    assert drawing.shape.options() == {"radius": 3, "lambda_": 0.5}
    assert SHAPES.make(drawing.shape, "here").seen == ("here", 3, 0.5)  # type: ignore[attr-defined]
    assert Timing(9, **drawing.timing.options()).seen == (9, 3)


def test_build_takes_runtime_arguments_by_position_or_by_name() -> None:
    assert SHAPES.build("square", "there", side=2) == ("there", 2, "solid")
    assert SHAPES.build("square", place="there", side=2) == ("there", 2, "solid")
    with pytest.raises(ValidationError):
        SHAPES.build("square", "there", side=0)


def test_plain_data_round_trips_with_the_names_of_the_yaml() -> None:
    document = {"shape": "circle", "other": {"name": "square", "side": 1}, "timing": {"start": 5}}
    drawing = Drawing.model_validate(document)
    plain = drawing.plain()
    assert plain["shape"] == {"name": "circle", "layer": 0, "radius": 2, "lambda": 1.0}
    assert Drawing.model_validate(plain) == drawing


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "shape: is required but missing"),
        ({"shape": 3}, "shape: must be a mapping with a 'name' out of the shapes, got 3"),
        ({"shape": "circel"}, "shape: 'circel' is not among the shapes; did you mean 'circle'? known: circle, square"),
        ({"shape": {"name": "circle", "radius": 0}}, "shape.radius: input should be greater than 0, got 0"),
        ({"shape": {"name": "circle", "radius": True}}, "shape.radius: input should be a valid integer, got True"),
        ({"shape": {"name": "circle", "radius": "3"}}, "shape.radius: input should be a valid integer, got '3'"),
        ({"shape": {"name": "square"}}, "shape.side: is required but missing"),
        (
            {"shape": {"name": "circle", "radus": 1}},
            "shape: unknown key 'radus'; did you mean 'radius'? known: lambda, layer, name, radius",
        ),
        ({"shape": "circle", "timing": {"start": -1}}, "timing.start: input should be greater than 0, got -1"),
    ],
)
def test_each_mistake_is_a_sentence(document: object, sentence: str) -> None:
    assert sentence in mistakes(document)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(InputError, match="already taken"):
        SHAPES.register("circle", source="again")(Circle)


def test_an_outsiders_component_is_imported_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("outside")
    module.Ring = type("Ring", (), {"__init__": Circle.__init__, "__module__": __name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside", module)
    drawing = Drawing.model_validate({"shape": {"name": "outside:Ring", "radius": 7}})
    assert SHAPES.make(drawing.shape).seen == (None, 7, 1.0)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="'outside:Rang' cannot be imported"):
        SHAPES.entry("outside:Rang")


def test_an_installed_entry_point_is_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = types.SimpleNamespace(name="shapes.ring", value="outside:Ring", load=lambda: Circle)
    monkeypatch.setattr("tskd_tune.registry.entry_points", lambda group: [point] if group == "tskd_tune" else [])
    assert "ring" in SHAPES.names()
    assert SHAPES.build("ring", radius=1).seen == (None, 1, 1.0)  # type: ignore[attr-defined]


def test_describe_names_sources_options_and_needs() -> None:
    circle, rectangle = SHAPES.describe()
    assert circle == {
        "name": "circle",
        "source": "Euclid, book 3",
        "options": {
            "radius": {
                "description": "from the center, `r` in pixels, to the line",
                "default": 2,
                "required": False,
            },
            "lambda": {"description": "", "default": 1.0, "required": False},
        },
        "needs": ["compass"],
    }
    assert rectangle["options"]["side"] == {"description": "", "default": None, "required": True}


def test_the_json_schema_lists_every_component() -> None:
    schema = Drawing.model_json_schema()
    names = {
        definition["properties"]["name"]["const"]
        for definition in schema["$defs"].values()
        if "name" in definition.get("properties", {})
    }
    assert names == {"circle", "square"}
