"""What YAML text is refused before it is made into data, and the lines that are kept of what is read."""

import pytest

from tskd_tune.documents import apply_settings
from tskd_tune.errors import InputError
from tskd_tune.parsing import MOST_DEPTH, parse

LAUGHS = "\n".join(["a0: &a0 [x, x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 30))])
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}" for n in range(1, 30))]
)
STAIRS = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: " + "[" * 10_000, "f.yaml:1:52: more than 50 levels of lists and mappings"),
        ("a: " + "[" * 10_000 + "]" * 10_000, "more than 50 levels of lists and mappings"),
        ("a: " + "{b: " * 10_000, "more than 50 levels of lists and mappings"),
        ("".join(" " * n + "-\n" for n in range(500)), "more than 50 levels of lists and mappings"),
        (STAIRS, "more than 50 levels of lists and mappings"),
        (LAUGHS, "aliases repeat more than 20000 values"),
        (MERGES, "aliases repeat more than 20000 values"),
        ("a: &a {<<: *a}", "f.yaml:1:4: an alias is inside the value that it repeats"),
        ("a: &a [[*a]]", "f.yaml:1:4: an alias is inside the value that it repeats"),
        ("\n\nb: 1e400", "f.yaml:3:4: the number is larger than 1.8e308"),
        ("b: -1e400", "the number is larger than 1.8e308"),
        ("b: 9223372036854775808", "f.yaml:1:4: the integer has more than 64 bits"),
        ("b: -9223372036854775809", "the integer has more than 64 bits"),
        ("b: 1" + "0" * 5000, "the integer has more than 64 bits"),
        ("b: 0x" + "f" * 5000, "the integer has more than 64 bits"),
        ('\n"\\ud83d": 1', "f.yaml:2:1: the text holds half a character"),
        ('a: ["\\udc80"]', "f.yaml:1:5: the text holds half a character"),
        ('a: "\\0"', "f.yaml:1:4: the text holds the control character U+0000"),
        ('"a\\e": 1', "f.yaml:1:1: the text holds the control character U+001B"),
        ("a: \ud83d", "f.yaml:1: the text holds the character U+D83D; remove it"),
        ("a: 1\nb: \x00", "f.yaml:2: the text holds the character U+0000; remove it"),
    ],
)
def test_refuses(text: str, sentence: str):
    with pytest.raises(InputError) as error:
        parse(text, "f.yaml")
    assert sentence in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {b: {c: 1}\nd: 2\n", "f.yaml:2:1: a ',' or '}' is missing before this place"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2:2: a ',' or ']' is missing before this place"),
        ("a: [1, 2]]\n", "f.yaml:1:10: there is a ']' too many here"),
        ("a: {b: 1}}\n", "f.yaml:1:10: there is a '}' too many here"),
        ("a:\n  b: 1\n c: 2\n", "f.yaml:3:2: this does not continue what is above"),
        ("a: 1\n- b\n", "f.yaml:2:1: this does not continue what is above"),
        ("a: 1\n  b: 2\n", "f.yaml:2:4: no ':' can be here"),
        ("a: b: c\n", "f.yaml:1:5: no ':' can be here"),
        ("a: 1\nb\n", "f.yaml:3:1: the line before this place has a key without a ':'"),
        ("a: 'x\n", "f.yaml:2:1: the text ends inside quotes that are not closed"),
        ("a: @x\n", "f.yaml:1:4: no text can begin with this character, unless the text is in quotes"),
        ('a: "C:\\q"\n', "f.yaml:1:8: in double quotes '\\' begins an escape"),
        ("a:\n\tb: 1\n", "f.yaml:2:1: there is a tab here, but YAML allows only spaces"),
    ],
)
def test_common_slips_are_said_in_plain_words(text: str, sentence: str):
    with pytest.raises(InputError) as error:
        parse(text, "f.yaml")
    assert str(error.value).startswith(sentence) and str(error.value).endswith("; correct the YAML there")
    assert "<" not in str(error.value)


@pytest.mark.parametrize("setting", ["a=" + "[" * 10_000, 'a="\\ud83d"', "\udcff=1", "a\x00=1", "a=1e400"])
def test_settings_are_refused_alike(setting: str):
    with pytest.raises(InputError, match="--set "):
        apply_settings({}, [setting])


def test_a_setting_with_thousands_of_keys():
    with pytest.raises(InputError, match=f"has 5000 keys, but {MOST_DEPTH} are the most"):
        apply_settings({}, [".".join("k" * 5000) + "=1"])


def test_halves_of_a_character_are_put_together():
    assert parse('{"\\ud83d\\ude00": "\\ud83d\\ude00"}', "f.yaml").data == {"\U0001f600": "\U0001f600"}


def test_what_files_need_is_read():
    text = "a: &a {b: [1, 2]}\nc: [" + ", ".join(["*a"] * 1000) + "]\nd: |\n  two\n  lines\ne: 9223372036854775807"
    found = parse(text, "f.yaml").data
    assert len(found["c"]) == 1000
    assert (found["d"], found["e"]) == ("two\nlines\n", 2**63 - 1)


def test_lines():
    text = "a:\n  b: 1\n  c:\n  - x\n  - {y: 1,\n     z: 2}\nd: &d {e: 1}\nf:\n  <<: *d\n"
    lines = parse(text, "f.yaml").lines
    assert {".".join(keys): line for keys, line in lines.items()} == {
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c.0": 4,
        "a.c.1": 5,
        "a.c.1.y": 5,
        "a.c.1.z": 6,
        "d": 7,
        "d.e": 7,
        "f": 8,
        "f.e": 7,
    }
