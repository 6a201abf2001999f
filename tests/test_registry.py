"""A registry derives options from signatures, and each mistake is a sentence."""

from __future__ import annotations

import abc
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError

from tskd_tune.errors import InputError, did_you_mean, sentences
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


Side = Annotated[PositiveInt, Field(examples=[2])]


@SHAPES.register("square", source="Euclid, book 1")
def square(place: str | None = None, *, side: Side, style: Literal["solid", "dashed"] = "solid") -> object:
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

    shape: Annotated[Placed, SHAPES.slot(Placed)] = Field(examples=[{"name": "square", "side": 2}])
    other: Annotated[Component, SHAPES.slot()] | None = None
    timing: Annotated[Derived, TIMING] = Field(default_factory=TIMING.model)


class Frame(Options):
    """A frame of a drawing."""

    width: PositiveInt = Field(examples=[3])
    wood: str = Field(description="its wood")
    drawing: Drawing


def mistakes(document: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(document)
    return sentences(caught.value)


def test_each_missing_key_has_a_sentence_with_an_example_or_its_meaning() -> None:
    with pytest.raises(ValidationError) as caught:
        Frame.model_validate({})
    assert sentences(caught.value) == [
        "width: is required but missing; write for example width: 3",
        "wood: is required but missing; its wood",
        "drawing: is required but missing",
    ]
    with pytest.raises(ValidationError) as caught:
        Frame.model_validate({"width": 1, "wood": "oak", "drawing": {"timing": {"start": 5}}})
    (sentence,) = sentences(caught.value)
    assert sentence.startswith("drawing.shape: is required but missing; write for example shape: {name: square, side")


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
        ({}, "shape: is required but missing; write for example shape: {name: square, side: 2}"),
        ({"shape": 3}, "shape: must be a mapping with a 'name' out of the shapes, got 3; known: circle, square"),
        ({"shape": "a\nb"}, "shape: 'a\\nb' is not among the shapes; known: circle, square"),
        ({"shape": "circel"}, "shape: 'circel' is not among the shapes; did you mean 'circle'? known: circle, square"),
        ({"shape": {"name": "circle", "radius": 0}}, "shape.radius: must be greater than 0, got 0"),
        ({"shape": {"name": "circle", "radius": True}}, "shape.radius: must be an integer, got true"),
        ({"shape": {"name": "circle", "radius": "3"}}, "shape.radius: must be an integer, got '3'"),
        ({"shape": {"name": "square"}}, "shape.side: is required but missing; write for example side: 2"),
        (
            {"shape": {"name": "square", "side": 1, "style": "Soild"}},
            "shape.style: must be 'solid' or 'dashed', got 'Soild'; did you mean 'solid'?",
        ),
        (
            {"shape": {"name": "square", "side": 1, "style": 3}},
            "shape.style: must be 'solid' or 'dashed', got 3",
        ),
        (
            {"shape": {"name": "circle", "radus": 1}},
            "shape: unknown key 'radus'; did you mean 'radius'? known: lambda, layer, name, radius",
        ),
        ({"shape": "circle", "timing": {"start": -1}}, "timing.start: must be greater than 0, got -1"),
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


# components that do not fit


class Shape(abc.ABC):
    """What the registry of this test holds."""

    @abc.abstractmethod
    def draw(self) -> str:
        """Draw."""


class Dot(Shape):
    """A dot."""

    def __init__(self, place: str, *, size: int = 1) -> None:
        if size > 3:
            raise KeyError("too large")
        self.place = place

    def draw(self) -> str:
        return self.place


class Untold(Dot):
    def __init__(self, place: str, *, size=1) -> None:
        super().__init__(place, size=size)


def dot(place: str) -> Shape:
    return Dot(place)


def called(place: str) -> Shape:
    raise SystemExit("was called")


def lying(place: str) -> Shape:
    return place  # type: ignore[return-value]


def silent(place: str):
    raise AssertionError("was called")


def other(place: str) -> str:
    raise AssertionError("was called")


THINGS: Registry[Shape] = Registry("things", Shape)
HERE = __name__


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("json:loads", "'json:loads' is not one of the things: it is a function that does not say what it returns"),
        ("os:system", "is not one of the things: it is a function that does not say"),
        ("os:sep", "is not one of the things: it is a value of the type str"),
        ("torch.nn:Linear", "it is the class Linear, which is no subclass of Shape"),
        (f"{HERE}:Shape", "it is an abstract class; define draw in a subclass"),
        (f"{HERE}:silent", "annotate it with -> Shape"),
        (f"{HERE}:other", "it is a function that returns str, not Shape"),
        (f"{HERE}:nothing", "cannot be imported: "),
        ("no_such_module:Dot", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module'"),
        (":", "cannot be imported"),
        (".relative:Dot", "cannot be imported"),
        ("circle", "'circle' is not among the things; it is one of the shapes"),
        ("CIRCEL", "'CIRCEL' is not among the things; known: "),
    ],
)
def test_what_is_no_component_is_never_called(name: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        THINGS.entry(name)
    assert sentence in str(caught.value)


def test_a_module_that_fails_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit('no')\n")
    (tmp_path / "breaks.py").write_text("\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module, sentence in (
        ("leaves", "SystemExit: no, leaves.py:2"),
        ("breaks", "ZeroDivisionError: division by zero"),
    ):
        with pytest.raises(InputError, match=sentence):
            THINGS.entry(f"{module}:Dot")


def test_components_fit_by_class_and_by_annotation() -> None:
    assert THINGS.build(f"{HERE}:Dot", "here", size=2).draw() == "here"
    assert THINGS.build(f"{HERE}:dot", "there").draw() == "there"


def test_what_a_component_raises_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"thing: '.*:Dot' cannot be built with these options \(KeyError: 'too large'"):
        THINGS.build(f"{HERE}:Dot", "here", size=4)
    with pytest.raises(InputError, match=r"thing: '.*:lying' gave a str, but must give a Shape"):
        THINGS.build(f"{HERE}:lying", "here")
    with pytest.raises(InputError, match=r"the option 'size' has no annotation; give its type"):
        THINGS.build(f"{HERE}:Untold", "here")


def test_a_broken_entry_point_breaks_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise ImportError("gone")

    points = [types.SimpleNamespace(name="shapes.ring", value="outside:Ring", load=load)]
    monkeypatch.setattr("tskd_tune.registry.entry_points", lambda group: points)
    assert SHAPES.build("square", side=1)
    with pytest.raises(InputError, match="entry point outside:Ring cannot be imported .ImportError: gone"):
        SHAPES.build("ring")


@pytest.mark.parametrize(("word", "near"), [("CIRCLE", "circle"), ("Squares", "square"), ("cirlce", "circle")])
def test_did_you_mean_knows_no_case(word: str, near: str) -> None:
    assert f"did you mean '{near}'? known: circle, square" in did_you_mean(word, ["square", "circle"])


def test_did_you_mean_lists_each_word_once() -> None:
    assert did_you_mean("nope", ["tskd", "ce", "tskd"]) == "; known: ce, tskd"


def no_pair() -> tuple[Any, int]:
    given: Any = None
    return given


def half_a_pair() -> tuple[Any, int]:
    given: Any = ("searcher",)
    return given


def a_pair() -> tuple[Any, int]:
    return "searcher", 1


def no_scheduler() -> Any:
    return None


def test_what_a_function_makes_is_checked_whatever_names_its_kind() -> None:
    """A scheduler or a searcher that was None ended a sweep with an error of Python."""
    pairs: Registry[object] = Registry("pairs", tuple[Any, int])
    assert pairs.build(f"{HERE}:a_pair") == ("searcher", 1)
    for name in ("no_pair", "half_a_pair"):
        with pytest.raises(InputError, match=f"pair: '.*:{name}' gave a .*, but must give a tuple"):
            pairs.build(f"{HERE}:{name}")
    named: Registry[object] = Registry("schedulers", "TrialScheduler")
    with pytest.raises(InputError, match="gave a NoneType, but must give a TrialScheduler"):
        named.build(f"{HERE}:no_scheduler")
