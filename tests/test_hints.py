"""The types of an outsider's options: each is read from what YAML has for it, and written so that it is read again."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from tskd_tune.errors import InputError
from tskd_tune.options import Component
from tskd_tune.signatures import options_model

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Window:
    size: tuple[int, int] = (1, 2)


def with_enum(*, x: Color = Color.RED) -> None: ...
def with_enums(*, x: list[Color] | None = None) -> None: ...
def with_literal(*, x: Literal["a", "b"] = "a") -> None: ...
def with_tuple(*, x: tuple[int, int] = (1, 2)) -> None: ...
def with_tuples(*, x: dict[str, tuple[float, ...]] | None = None) -> None: ...
def with_set(*, x: frozenset[Color] = frozenset()) -> None: ...
def with_dataclass(*, x: Window = Window()) -> None: ...
def with_date(*, x: date = date(2026, 1, 1)) -> None: ...
def with_decimal(*, x: Decimal = Decimal(1)) -> None: ...
def with_union(*, x: Color | int = 1) -> None: ...


@pytest.mark.parametrize(
    ("factory", "given", "value"),
    [
        (with_enum, "blue", Color.BLUE),
        (with_enums, ["blue"], [Color.BLUE]),
        (with_literal, "b", "b"),
        (with_tuple, [3, 4], (3, 4)),
        (with_tuples, {"a": [3.0]}, {"a": (3.0,)}),
        (with_dataclass, {"size": [3, 4]}, Window((3, 4))),
        (with_date, "2026-11-28", date(2026, 11, 28)),
        (with_decimal, "0.1", Decimal("0.1")),
        (with_union, "red", Color.RED),
    ],
)
def test_an_option_is_read_from_yaml_and_again_from_the_row(
    factory: Callable[..., None], given: object, value: object
) -> None:
    model = options_model(factory, "mine:part", Component)
    for found in (model.model_validate({"name": "mine:part", "x": given}), model.model_validate({"name": "mine:part"})):
        assert model.model_validate(found.plain()) == found
    assert model.model_validate({"name": "mine:part", "x": given}).options() == {"x": value}


@pytest.mark.parametrize(
    ("factory", "given"), [(with_tuple, ["3", 4]), (with_dataclass, {"size": ["3", 4]}), (with_enum, "green")]
)
def test_what_is_inside_stays_strict(factory: Callable[..., None], given: object) -> None:
    with pytest.raises(ValueError, match="x"):
        options_model(factory, "mine:part", Component).model_validate({"name": "mine:part", "x": given})


def with_path(*, x: Path | None = None) -> None: ...
def with_paths(*, x: list[Path] | None = None) -> None: ...
def without_type(*, x=1) -> None: ...  # type: ignore[no-untyped-def]
def with_name(*, name: str = "a") -> None: ...
def with_json(*, json: int = 1) -> None: ...
def with_unknown(*, x: Unknown = 1) -> None: ...


@pytest.mark.parametrize(
    ("factory", "sentence"),
    [
        (with_path, "the option 'x' is a path of pathlib.*annotate the option with tskd_tune.paths.PathText"),
        (with_set, "the option 'x' is a set, whose order differs between processes.*annotate the option as a list"),
        (with_paths, "the option 'x' is a path of pathlib"),
        (without_type, "the option 'x' has no annotation; give its type, as in x: float"),
        (with_name, "the option 'name' has the name of a key that each component has here; give the option another"),
        (with_json, "the option 'json' has a name.*call the parameter 'json_', which YAML writes as 'json'"),
        (with_unknown, "name 'Unknown' is not defined.*import the name at run time too, not only under TYPE_CHECKING"),
    ],
)
def test_what_no_file_can_give_is_refused(factory: Callable[..., None], sentence: str) -> None:
    with pytest.raises(InputError, match=f"'mine:part': .*{sentence}"):
        options_model(factory, "mine:part", Component)


def for_checkers_alone(probe: Unknown, *, x: int = 1) -> None: ...


def test_the_types_of_what_the_builder_supplies_are_not_read() -> None:
    assert options_model(for_checkers_alone, "mine:part", Component).model_validate(
        {"name": "mine:part"}
    ).options() == {"x": 1}
