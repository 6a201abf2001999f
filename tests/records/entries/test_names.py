"""A run's name is a plain word, whoever gives it."""

import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.entries.names import MOST_BYTES, refuse_name


@pytest.mark.parametrize(
    "name", ["first", "k=3, delta 5", "2026-01-02", "\u00e9t\u00e9", "n" * MOST_BYTES, "a..b", "a-"]
)
def test_plain_names(name: str) -> None:
    refuse_name(name)


@pytest.mark.parametrize(
    ("name", "slip"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("-x", "begins with '-'"),
        ("--storage", "begins with '-'"),
        (".hidden", "begins with '.'"),
        ("..", "begins with '.'"),
        ("a/b", "holds a slash"),
        ("/a", "holds a slash"),
        ("a\\b", "holds a slash"),
        ("a\nb", r"holds the character U\+000A"),
        ("a\tb", r"holds the character U\+0009"),
        ("a\x1b[31m", r"holds the character U\+001B"),
        ("a\udcff", r"holds the character U\+DCFF"),
        (" a", "begins or ends with a space"),
        ("n" * 101, "has 101 bytes of at most 100"),
        ("\u00e9" * 51, "has 102 bytes of at most 100"),
    ],
)
def test_others_are_refused(name: str, slip: str) -> None:
    with pytest.raises(InputError, match=f"^--name: must be a plain name, but .* {slip}; give another --name$"):
        refuse_name(name)
