from __future__ import annotations

import json

import pytest

from tskd_tune.tasks.summary import DataSummary, Leftovers, Sizes
from tskd_tune.tasks.words import counted, shown


def summary(**over: object) -> DataSummary:
    left = Leftovers()
    for name in ("b/.x", "a/.y", "a/.y", "c/.z", "d/.w"):
        left.add("hidden", name)
    facts = {
        "source": "/set",
        "classes": ("cat", "dog"),
        "counts": (12, 9),
        "samples": (14, 0, 7),
        "origins": ("train/", "task.validation", "test/"),
        "size": (32, 32),
        "sizes": Sizes.of([(640, 480), (20, 30), (100, 100)]),
        "left_out": left.all(),
    }
    return DataSummary(**{**facts, **over})


def test_a_summary_in_words() -> None:
    assert summary().lines() == [
        "data: /set",
        "  2 classes: cat (12), dog (9)",
        "  images: 14 training (train/), 0 validation, 7 test (test/)",
        "  sizes: 20 x 30 to 640 x 480, median 100 x 100 (3 of 21 files looked at); used as 32 x 32",
        "  left out, hidden: 4 (a/.y, b/.x, c/.z, 1 more)",
    ]


def test_many_classes_are_cut_short() -> None:
    names = tuple(f"c{number}" for number in range(100))
    counts = (500, 480, *[500] * 98)
    assert summary(classes=names, counts=counts).lines()[1] == (
        "  100 classes: c0 (500), c1 (480), c2 (500), c3 (500), c4 (500) and 95 more, 480 to 500 each"
    )
    assert summary(classes=names, counts=None).lines()[1] == "  100 classes: c0, c1, c2, c3, c4, 95 more"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (None, "32 x 32"),
        (Sizes.of([(32, 32)] * 21), "32 x 32"),
        (Sizes.of([(64, 64)] * 21), "64 x 64; used as 32 x 32"),
    ],
)
def test_sizes_in_words(sizes: Sizes | None, words: str) -> None:
    assert summary(sizes=sizes).lines()[3] == f"  sizes: {words}"


def test_a_summary_as_plain_data() -> None:
    plain = summary().plain()
    assert plain["classes"] == [{"name": "cat", "images": 12}, {"name": "dog", "images": 9}]
    assert plain["parts"]["test"] == {"images": 7, "from": "test/"}
    assert plain["original_sizes"]["median"] == [100, 100]
    assert plain["left_out"] == [{"why": "hidden", "count": 4, "examples": ["a/.y", "b/.x", "c/.z"]}]
    assert [c["images"] for c in summary(counts=None).plain()["classes"]] == [None, None]


def test_names_that_no_terminal_shows_are_escaped() -> None:
    odd = summary(classes=("caf\udce9", "a\nb"))
    text = "\n".join(odd.lines()) + json.dumps(odd.plain(), ensure_ascii=False)
    assert "caf\\udce9 (12), a\\nb (9)" in text
    assert text.encode()
    assert shown("日本語 é") == "日本語 é"


def test_numbers_of_things() -> None:
    assert [counted(number, "class") for number in (1, 2, 12345)] == ["1 class", "2 classes", "12,345 classes"]
