"""Seeds as text: one reading on the command line, in a file and with ``--set``."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from tskd_tune.cli.preparing.schemas import json_schema
from tskd_tune.documents import apply_settings
from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.seeds import seeds_in


def sweep(tiny: dict[str, Any], seeds: Any) -> Sweep:
    return Sweep.read({"experiment": tiny, "seeds": seeds, "search": {"name": "grid"}})


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("6-8", [6, 7, 8]), ("4", [4]), ("1,3, 6-7", [1, 3, 6, 7]), ("5-5", [5]), ("1 - 3", [1, 2, 3])],
)
def test_seeds_are_read_alike_everywhere(tiny_document: dict[str, Any], text: str, seeds: list[int]) -> None:
    assert seeds_in(text) == seeds
    found = sweep(tiny_document, text)
    assert found.all_seeds() == found.plain()["seeds"] == seeds
    document = {"experiment": tiny_document, "search": {"name": "grid"}, "seeds": text}
    jsonschema.validate(document, json_schema("sweep"))
    setting = apply_settings(document, [f"seeds={text}" if "," not in text else f"seeds='{text}'"])
    if not text.isdecimal():
        assert Sweep.read(setting).all_seeds() == seeds


def test_ranges_within_a_list(tiny_document: dict[str, Any]) -> None:
    assert sweep(tiny_document, [1, "3-5", 9]).all_seeds() == [1, 3, 4, 5, 9]


@pytest.mark.parametrize("text", ["", "a", "-3", "1,,2", "1-2-3", "1.5", "\u0661-\u0663", "\u00b2"])
def test_wrong_seeds_are_a_sentence(tiny_document: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match="--seeds: must be numbers and ranges, such as 6-10"):
        seeds_in(text)
    with pytest.raises(InputError, match="seeds: must be numbers and ranges"):
        sweep(tiny_document, text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("3-1", "the range 3-1 descends; write 1-3"),
        ("1-1000000000000", "has more than 10000 seeds"),
        ("1-9000,20001-30000", "has more than 10000 seeds"),
        ("99999999999999999999", "a seed is at most 9223372036854775807"),
        ("9223372036854775808", "a seed is at most 9223372036854775807"),
    ],
)
def test_absurd_seeds_are_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        seeds_in(text)


@pytest.mark.parametrize(
    ("seeds", "sentence"),
    [
        (3, r"seeds: must be a list, such as \[3\] for one seed or 1-3 for a range, got 3"),
        ([1, -1], "seeds.1: must be greater than or equal to 0, got -1"),
        ([2**63], "seeds.0: must be less than or equal to"),
        ([True], "seeds.0: must be an integer, got true"),
        ([], "seeds: must be a list of different numbers"),
        ("1-3,2", "seeds: must be a list of different numbers"),
        ({"a": 1}, "seeds: must be a list, got"),
    ],
)
def test_other_slips(tiny_document: dict[str, Any], seeds: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        sweep(tiny_document, seeds)
