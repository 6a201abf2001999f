"""YAML as plain data: what is read, what is refused, and how files and settings are laid over one another."""

import json
import os
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tskd_tune import documents
from tskd_tune.documents import apply_settings, dump, extended, merge, read
from tskd_tune.errors import InputError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read_value(tmp_path: Path, text: str):
    return read(write(tmp_path / "value.yaml", f"value: {text}"))["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1e-3", 1e-3),
        ("+1E3", 1000.0),
        ("1.e5", 1e5),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("'1e-3'", "1e-3"),
        ("!!str 3", "3"),
        ("[1, [2, {a: b}]]", [1, [2, {"a": "b"}]]),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: object):
    found = read_value(tmp_path, text)
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_written(tmp_path: Path):
    document = read(write(tmp_path / "a.yaml", "choice: {1: a, null: b, on: c, 5e-4: d}"))
    assert document == {"choice": {"1": "a", "null": "b", "on": "c", "5e-4": "d"}}


def test_merge_key_gives_way_to_own_keys(tmp_path: Path):
    document = read(write(tmp_path / "a.yaml", "base: &b {k: 3, delta: 5}\nreview: {<<: *b, k: 6}"))
    assert document["review"] == {"k": 6, "delta": 5}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\n", "bad.yaml:4:3: the key 'c' is given a second time"),
        ("a: &a {b: *a}", "bad.yaml:1:4: an alias is inside the value that it repeats"),
        ("a: [1, 2\nb: 3", "bad.yaml:2:2: "),
        ("a: 1\n\tb: 2", "bad.yaml:2:1: "),
        ("a: !set {b}", "bad.yaml:1:4: the tag '!set' is not supported"),
        ("a: !!int foo", "bad.yaml:1:4: invalid literal"),
        ("{[1]: 2}", "bad.yaml:1:2: a key must be a word"),
        ("'set' -u", "bad.yaml:1:7: this does not go on from what is above; a YAML file holds keys with values"),
        ("a: 1\n---\nb: 2", "bad.yaml:2:1: a second document begins here"),
        ("a:\t1", "bad.yaml:1:3: there is a tab here, but YAML allows only spaces"),
        ("- 1", "bad.yaml:1:1: must hold a mapping (key: value), got a list"),
        ("just text", "bad.yaml:1:1: must hold a mapping (key: value), got 'just text'"),
        ("", "bad.yaml:1:1: must hold a mapping (key: value), got nothing: the file is empty"),
        ("a: \x07", "bad.yaml:1: the text holds the character U+0007; remove it"),
    ],
)
def test_refuses(tmp_path: Path, text: str, sentence: str):
    with pytest.raises(InputError) as error:
        read(write(tmp_path / "bad.yaml", text))
    assert sentence in str(error.value)


@pytest.mark.parametrize("key", ["extends", "experiment.extends"])
def test_a_setting_cannot_extend(key: str):
    with pytest.raises(InputError, match=f"--set {key}=a.yaml: extends is read before settings; write it into the"):
        apply_settings({}, [f"{key}=a.yaml"])


def test_refuses_missing_and_binary_files(tmp_path: Path):
    with pytest.raises(InputError, match=r"none.yaml: cannot be read \(No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(InputError, match=r"is not UTF-8 text \(byte 3\)"):
        read(tmp_path / "binary.yaml")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
    | st.sampled_from(["1e-3", "on", "no", "~", "null", "1:30", "0x1", ".inf", "<<", "=", "2020-01-01", ".5", "1e5"])
)
KEYS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1) | st.sampled_from(["on", "1e3", "~"])
DOCUMENTS = st.dictionaries(
    KEYS, st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)
)


@settings(max_examples=60, deadline=None)
@given(document=DOCUMENTS)
def test_dump_round_trip(tmp_path_factory: pytest.TempPathFactory, document: dict):
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump(document), encoding="utf-8")
    found = read(path)
    assert found == document
    assert json.dumps(found) == json.dumps(document)


def test_dump_keeps_text_for_other_readers_and_order():
    document = {"z": "on", "a": "1e-3", "n": 5e-4, "shared": [1], "again": None}
    document["again"] = document["shared"]
    text = dump(document)
    assert yaml.safe_load(text)["z"] == "on"
    assert [line.partition(":")[0] for line in text.splitlines()] == ["z", "a", "n", "shared", "again"]
    assert "&" not in text


def test_merge_lays_one_over_the_other():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 3}
    over = {"a": {"c": [3]}, "d": None, "g": {"h": 1}, "f": {"i": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": [3]}, "d": None, "f": {"i": 2}, "g": {"h": 1}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": {"e": 1}, "f": 3}


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        ({"name": "kd", "t": 4}, {"name": "at", "p": 2}, {"name": "at", "p": 2}),
        ({"name": "kd", "t": 4}, {"name": "kd", "w": 2}, {"name": "kd", "t": 4, "w": 2}),
        ({"name": "kd", "t": 4}, {"w": 2}, {"name": "kd", "t": 4, "w": 2}),
        ({"t": 4}, {"name": "kd"}, {"t": 4, "name": "kd"}),
        ("kd", {"name": "at"}, {"name": "at"}),
        ({"name": "kd"}, "at", "at"),
        ({"auto": 0.1}, {"loguniform": [1, 2]}, {"loguniform": [1, 2]}),
        ({"loguniform": [1, 2]}, {"auto": 0.1}, {"auto": 0.1}),
        ({"int": [1, 2]}, {"uniform": [1, 2]}, {"uniform": [1, 2]}),
        ({"choice": [1, 2]}, {"grid": [3]}, {"grid": [3]}),
        ({"choice": [1, 2]}, {"choice": [3]}, {"choice": [3]}),
        ({"k": 3}, {"choice": {"none": None}}, {"k": 3, "choice": {"none": None}}),
    ],
)
def test_merge_replaces_what_belongs_to_another(base: object, over: object, merged: object):
    assert merge({"x": base}, {"x": over}) == {"x": merged}


def test_extends_beside_and_nested(tmp_path: Path):
    write(tmp_path / "a.yaml", "extends: sub/b.yaml\nreview: {k: 6}")
    write(tmp_path / "sub" / "b.yaml", "extends: c.yaml\nreview: {delta: 9}\nseed: 2")
    write(tmp_path / "sub" / "c.yaml", "task: {name: digits}\nreview: {k: 3, delta: 5}\nseed: 1")
    found = extended(read(tmp_path / "a.yaml"), tmp_path)
    assert found == {"task": {"name": "digits"}, "review": {"k": 6, "delta": 9}, "seed": 2}


def test_extends_under_experiment(tmp_path: Path):
    write(tmp_path / "base.yaml", "task: {name: digits}\nreview: {k: 3}")
    sweep = {"experiment": {"extends": "base.yaml", "review": {"choice": {"none": None}}}, "seeds": [1]}
    expected = {"task": {"name": "digits"}, "review": {"k": 3, "choice": {"none": None}}}
    assert extended(sweep, tmp_path) == {"experiment": expected, "seeds": [1]}
    assert "extends" in sweep["experiment"]


def test_a_sweep_extends_a_sweep(tmp_path: Path):
    write(tmp_path / "sub" / "base.yaml", "task: {name: digits}")
    write(tmp_path / "sub" / "sweep.yaml", "experiment: {extends: base.yaml, review: {k: 3}}\nseeds: [1]")
    found = extended({"extends": "sub/sweep.yaml", "seeds": [1, 2]}, tmp_path)
    assert found == {"experiment": {"task": {"name": "digits"}, "review": {"k": 3}}, "seeds": [1, 2]}


def test_extends_falls_back_to_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents, "PACKAGED", tmp_path / "package")
    write(tmp_path / "package" / "paper" / "one.yaml", "k: packaged")
    assert extended({"extends": "paper/one.yaml"}, tmp_path / "user") == {"k": "packaged"}
    write(tmp_path / "user" / "paper" / "one.yaml", "k: own")
    assert extended({"extends": "paper/one.yaml"}, tmp_path / "user") == {"k": "own"}
    with pytest.raises(InputError, match=r"'paper/on.yaml' is neither in .*did you mean 'paper/one.yaml'"):
        extended({"extends": "paper/on.yaml"}, tmp_path / "elsewhere")


def test_extends_refuses_circles_and_other_things(tmp_path: Path):
    write(tmp_path / "a.yaml", "extends: b.yaml")
    write(tmp_path / "b.yaml", "extends: a.yaml")
    with pytest.raises(InputError, match=r"b.yaml -> .*a.yaml -> .*b.yaml goes in a circle"):
        extended(read(tmp_path / "a.yaml"), tmp_path)
    with pytest.raises(InputError, match=r"extends: must be the path of a YAML file, got \['a'\]"):
        extended({"extends": ["a"]}, tmp_path)


def test_settings_are_merged_in_order():
    document = {"review": None, "student": {"name": "resnet20", "width": 1}, "training": {"epochs": 3}}
    found = apply_settings(
        document,
        ["review.k=6", "student.name=resnet32", "training.lr=5e-4", "training.milestones=[1, 2]", "new.deep.er=null"],
    )
    assert found == {
        "review": {"k": 6},
        "student": {"name": "resnet32"},
        "training": {"epochs": 3, "lr": 5e-4, "milestones": [1, 2]},
        "new": {"deep": {"er": None}},
    }
    assert document["review"] is None
    assert apply_settings({"a": 1}, ["a=2", "a=b=c"]) == {"a": "b=c"}
    assert apply_settings({"k": {"choice": [1, 2]}}, ["k=3"]) == {"k": 3}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("review.k", "--set review.k: must read key.key=value"),
        ("=3", "must read key.key=value"),
        ("review..k=3", "must read key.key=value"),
        ("review.k=[1", "--set review.k=[1:1:3: "),
        ("distiller.weight=2", "distiller is 'kd', which has no 'weight'; set distiller itself"),
        ("review.milestones.0=2", "review.milestones is [1], which has no '0'"),
    ],
)
def test_settings_refused(setting: str, sentence: str):
    with pytest.raises(InputError) as error:
        apply_settings({"distiller": "kd", "review": {"milestones": [1]}}, [setting])
    assert sentence in str(error.value)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """As ``<(command)`` and ``/dev/stdin``: the file is opened several times, to see what it is and to read it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a: 1\n",))
    writer.start()
    assert [read(pipe) for _ in range(3)] == [{"a": 1}] * 3
    writer.join()
