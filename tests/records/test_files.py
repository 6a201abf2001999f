from __future__ import annotations

import errno
import json
import os

import pytest

from tskd_tune.errors import RunError
from tskd_tune.records import files


def test_a_full_disk_and_a_missing_file_are_sentences(tmp_path, monkeypatch):
    with pytest.raises(RunError, match=r"could not be read \(No such file or directory\)"):
        files.read_text(tmp_path / "gone.jsonl")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        files.append_lines(tmp_path / "history.jsonl", [{"epoch": 0}])


def test_numbers_that_are_not_finite_become_null():
    line = files.json_line({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -float("inf")}, "e": "ü"})
    assert line == '{"a": null, "b": [null, 1.5], "c": {"d": null}, "e": "ü"}\n'


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        ('{"epoch": 1, "lo', [0]),
        ('{"epoch": 1}', [0, 1]),
        ("\xc3", [0]),
    ],
)
def test_appending_mends_a_torn_tail(tmp_path, tail, kept):
    path = tmp_path / "history.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + tail.encode("latin-1"))
    files.append_lines(path, [{"epoch": 2}, {"epoch": 3}])
    epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    assert epochs == [*kept, 2, 3]


def test_appending_mends_a_file_that_is_only_a_torn_line(tmp_path):
    path = tmp_path / "deep" / "history.jsonl"
    files.append_lines(path, [])
    path.write_text('{"epo')
    files.append_lines(path, [{"epoch": 0}])
    assert path.read_text() == '{"epoch": 0}\n'


@pytest.mark.parametrize("line", ["", "{", "[1]", "3", "null"])
def test_a_line_that_is_no_object_is_torn(line):
    assert files.parsed_line(line) is None
