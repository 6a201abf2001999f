from __future__ import annotations

import errno
import json
import os

import pytest

from tskd_tune.errors import RunError
from tskd_tune.records import files
from tskd_tune.records.files import append_lines, history_line, look_line, read_lines, remove_parts


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


ODD = [
    (b"{", "is not a JSON object"),
    (b"[1]", "is not a JSON object"),
    (b"3", "is not a JSON object"),
    (b"", "is a blank line"),
    (b"\xff\xfe\x00", "is not a JSON object"),
    (b'{"epoch": 0}', "seed is None and must be a whole number"),
    (b'{"seed": "1", "epoch": 0}', "seed is '1' and must be a whole number"),
    (b'{"seed": 1, "epoch": true}', "epoch is True and must be a whole number"),
    (b'{"seed": 1, "epoch": -1}', "epoch is -1 and must be a whole number"),
    (b'{"seed": 1, "epoch": 0, "val_top1": "high"}', "val_top1 is 'high' and must be a number"),
    (b'{"seed": 1, "epoch": 0, "seconds": [1]}', "seconds is [1] and must be a number"),
    (b'{"seed": 1, "epoch": 0, "phase": 3}', "phase is 3 and must be text"),
]


@pytest.mark.parametrize(("odd", "sentence"), ODD)
def test_an_odd_line_of_a_history_is_a_sentence_and_the_others_stand(tmp_path, odd, sentence):
    path = tmp_path / "history.jsonl"
    good = [b'{"seed": 1, "epoch": %d, "phase": "general", "val_top1": 3.5}' % epoch for epoch in range(3)]
    path.write_bytes(b"\n".join([good[0], odd, *good[1:], b""]))
    found = read_lines(path, history_line)
    assert [line["epoch"] for line in found.records] == [0, 1, 2]
    (damage,) = found.damage
    assert damage.startswith(f"{path}:2: ") and sentence in damage and "left out" in damage
    assert [line.raw for line in found.odd] == [odd]


def test_text_that_some_take_for_the_end_of_a_line_is_none(tmp_path):
    path = tmp_path / "history.jsonl"
    append_lines(path, [{"seed": 1, "epoch": 0, "phase": "a\u2028b\x0bc"}])
    assert read_lines(path, history_line).damage == []


@pytest.mark.parametrize("line", [b'{"at": "5"}', b'{"at": 5}', b'{"at": 5, "stop": 1, "sentence": ""}', b"{}"])
def test_an_odd_look_is_a_sentence(tmp_path, line):
    path = tmp_path / "looks.jsonl"
    path.write_bytes(line + b"\n")
    found = read_lines(path, look_line)
    assert found.records == [] and "looks.jsonl:1: is not a look" in found.damage[0]


def test_what_a_kill_left_half_is_removed_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    (run / "trials" / "00001" / "checkpoint_000000").mkdir(parents=True)
    mine = [
        run / ".rows.jsonl.abc.part",
        run / "trials" / "00001" / "student-seed1.part",
        run / "trials" / "00001" / "checkpoint_000000" / ".state.part",
    ]
    kept = [run / "rows.jsonl", run / "trials" / "00001" / "particular.txt", tmp_path / "a.part"]
    for path in [*mine, *kept]:
        path.write_text("x")
    folders = {name: tmp_path / name for name in (".run.abc.part", ".other.abc.part", ".old.abc.part")}
    for path in folders.values():
        (path / "trials").mkdir(parents=True)
    os.utime(folders[".old.abc.part"], (0, 0))
    remove_parts(run)
    assert not any(path.exists() for path in mine) and all(path.exists() for path in kept)
    assert [name for name, path in folders.items() if path.exists()] == [".other.abc.part"], "it is being made"
