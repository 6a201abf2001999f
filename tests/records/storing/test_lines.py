"""Lines of JSON, whatever a file holds."""

from __future__ import annotations

import pytest

from tskd_tune.records.storing.lines import HistoryLine, interim_line, json_line, parsed_line, read_lines
from tskd_tune.records.storing.store import LocalStore


def test_numbers_that_are_not_finite_are_null():
    assert (
        json_line({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": "é"}})
        == '{"a": null, "b": [null, 1.5], "c": {"d": "é"}}\n'
    )


@pytest.mark.parametrize("line", ["", "{", "[1]", "3", "null"])
def test_a_line_that_is_no_object_is_torn(line):
    assert parsed_line(line) is None


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
    found = read_lines(LocalStore(tmp_path).lines(path.name), str(path), HistoryLine.read)
    assert [line.epoch for line in found.records] == [0, 1, 2]
    (damage,) = found.damage
    assert damage.startswith(f"{path}:2: ") and sentence in damage and "is ignored" in damage
    assert [line.raw for line in found.odd] == [odd]


def test_text_that_some_take_for_the_end_of_a_line_is_none(tmp_path):
    store = LocalStore(tmp_path)
    store.append("history.jsonl", json_line({"seed": 1, "epoch": 0, "phase": "a\u2028b\x0bc"}))
    found = read_lines(store.lines("history.jsonl"), "history.jsonl", HistoryLine.read)
    assert len(found.records) == 1 and found.damage == []


@pytest.mark.parametrize("line", [b'{"at": "5"}', b'{"at": 5}', b'{"at": 5, "stop": 1, "sentence": ""}', b"{}"])
def test_an_odd_look_is_a_sentence(tmp_path, line):
    path = tmp_path / "interim.jsonl"
    path.write_bytes(line + b"\n")
    found = read_lines(LocalStore(tmp_path).lines(path.name), str(path), interim_line)
    assert found.records == [] and "interim.jsonl:1: is not an interim analysis" in found.damage[0]
