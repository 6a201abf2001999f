"""Paths as they are written: from which folder they count, and what is no path."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from tskd_tune.paths import Address, PathOption, PathText, Written, in_shell, storage_place, whole, written

PACKAGE = Path(__file__).parents[1] / "tskd_tune"


def test_a_path_counts_from_the_file_that_names_it_or_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert whole("data") == str(tmp_path / "data")
    assert whole(Written.of("data", Path("files"))) == str(tmp_path / "files" / "data")
    assert whole(Written.of("../data", tmp_path / "files")) == str(tmp_path / "data")
    assert whole(Written.of("/data", tmp_path)) == "/data"


def test_the_home_folder_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert whole(Written.of("~/data", Path("files"))) == "/home/me/data"
    with pytest.raises(ValueError, match="the home folder is not known"):
        whole("~nobody-of-this-name/data")


def test_dots_that_cross_a_link_stay(tmp_path: Path):
    (tmp_path / "there" / "files").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "files")
    assert Path(whole(str(tmp_path / "link/../data"))).parent.resolve() == tmp_path / "there"


@pytest.mark.parametrize("text", ["file:///runs/here", "file://localhost/runs/here", "file:/runs/here"])
def test_a_local_address_is_a_path(text: str):
    assert whole(text) == "/runs/here"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/x",
        "gs://bucket",
        "s3:/bucket/x",
        "https://x.org/a.pth",
        "file://host/x",
        "any+thing://x",
        "foo:/bar",
    ],
)
def test_other_addresses_are_refused_with_the_remedy(text: str):
    with pytest.raises(ValueError, match=r"is an address, not a folder .*; give a path .*all machines share"):
        whole(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "empty"), ("  ", "empty"), ("a\0b", "null"), ("\ud83d", "half"), ("n" * 300, "255"), ("n/" * 3000, "4095")],
)
def test_what_no_file_system_holds_is_refused(text: str, what: str):
    with pytest.raises(ValueError, match=what):
        whole(text)


def test_every_text_of_a_document_but_no_key_remembers_its_folder():
    document = written({"a": {"b": ["x", 1]}, "c": None}, Path("here"))
    assert document == {"a": {"b": ["x", 1]}, "c": None}
    assert document["a"]["b"][0].folder == Path("here") and type(next(iter(document))) is str
    assert written(document, Path("there"))["a"]["b"][0].folder == Path("here")


def test_an_option_of_this_type_is_absolute_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    read = TypeAdapter(PathText | None).validate_python
    assert read("data") == str(tmp_path / "data") and read(None) is None
    with pytest.raises(ValidationError, match="is an address"):
        read("s3://bucket")
    assert PathOption(lambda text: text != "auto").read(Written.of("auto", tmp_path)) == "auto"


@pytest.mark.parametrize(
    ("text", "url"),
    [("s3://bucket/x/", "s3://bucket/x"), ("s3:/bucket/x", "s3://bucket/x"), ("GS://bucket", "gs://bucket")],
)
def test_an_address_is_read(text: str, url: str):
    found = Address.read(text)
    assert found is not None and str(found) == url and storage_place(text) == found == found.absolute()
    assert str(found / "run") == f"{url}/run" and (found / "run").parent == found and (found / "run").name == "run"
    assert found.scheme == url.partition(":")[0] and Address("s3://bucket").parent == Address("s3://bucket")


@pytest.mark.parametrize("text", ["runs", "/runs", "file:///runs", "C:/runs", "~/runs"])
def test_a_path_is_no_address(text: str):
    assert Address.read(text) is None and isinstance(storage_place(text), Path)


@pytest.mark.parametrize(
    "text", ["s3://", "s3:", "s3://bucket/../other", "s3://bucket//x", "s3://bucket/a?b", "s3://b/\n"]
)
def test_an_address_that_no_folder_has_is_refused(text: str):
    with pytest.raises(ValueError, match=r"is no address of a folder; give SCHEME://BUCKET/FOLDER"):
        Address.read(text)


@pytest.mark.parametrize("name", ["my runs", "it's", "a$HOME", "#1", "a&b", "[x]", "~", "*", "é 🐜"])
def test_a_path_in_a_command_is_one_word_for_the_shell(name: str):
    assert shlex.split(f"tskd-tune resume {in_shell(Path('runs') / name)}") == ["tskd-tune", "resume", f"runs/{name}"]


def test_a_plain_path_and_an_address_have_no_quotes():
    for plain in ("/home/me/runs/digits-2026-01-02", "s3://bucket/runs/first", "~/runs/a_1.2"):
        assert in_shell(plain) == (plain if not plain.startswith("~") else f"'{plain}'")


def test_every_command_that_a_message_advises_has_its_place_in_quotes():
    """A path with a space was two words for the shell: `tskd-tune resume /home/me/my runs/first`."""
    commands = re.compile(r"tskd-tune (?!list )[a-z]+ (?:--[a-z]+ )?\{(?!in_shell\(|quote\()[^}]*\}")
    others = {"{again}", "{given}", "{run}"}  # words of a command, in quotes already, and addresses of this program
    found = [
        f"{file.name}: {one}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for one in commands.findall(file.read_text())
        if one[one.index("{") :] not in others
    ]
    assert found == []
