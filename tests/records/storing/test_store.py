"""Named bytes and lists of lines in a folder: whole or absent, and appended at a cost that does not grow."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time

import pytest

from tskd_tune.errors import RunError
from tskd_tune.records.storing import store as stores
from tskd_tune.records.storing.store import LocalStore

LINE = '{"epoch": 0}\n'


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def test_content_is_replaced_read_listed_and_removed(store, tmp_path):
    assert store.read("trials/a/x.txt") is None and store.names("trials") == [] and store.version("x") is None
    store.write("trials/a/x.txt", b"old")
    store.write("trials/a/x.txt", b"new")
    store.write("y.txt", b"")
    assert store.read("trials/a/x.txt") == b"new"
    assert store.names() == ["trials/", "y.txt"] and store.names("trials/a") == ["x.txt"] and store.names("y.txt") == []
    store.write("z.txt", tmp_path / "trials" / "a" / "x.txt")
    assert store.read("z.txt") == b"new" and not list(tmp_path.rglob("*.part"))
    store.delete("trials/a/x.txt")
    store.delete("trials/a/x.txt")
    assert store.read("trials/a/x.txt") is None
    assert store.place("y.txt") == str(tmp_path / "y.txt")


def test_a_version_changes_with_the_content(store):
    store.append("rows.jsonl", LINE)
    first = store.version("rows.jsonl")
    assert store.version("rows.jsonl") == first
    store.append("rows.jsonl", LINE)
    second = store.version("rows.jsonl")
    store.write("rows.jsonl", 2 * LINE.encode())
    assert len({first, second, store.version("rows.jsonl")}) == 3


def test_lines_keep_what_only_looks_like_their_end(store):
    store.write("a", b"x\x0b\xe2\x80\xa8y\r\n\nz")
    assert list(store.lines("a")) == [b"x\x0b\xe2\x80\xa8y\r\n", b"\n", b"z"]
    assert list(store.lines("gone")) == []


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        ("", [0]),
        ('{"epoch": 1', [0]),
        ('{"epoch": 1}', [0, 1]),
        ("12", [0]),
        ('{"epoch": 1, "x": "\xff', [0]),
        ('{"epoch": 1, "x": "' + 300_000 * "y", [0]),
    ],
)
def test_appending_cuts_a_torn_tail_and_keeps_a_whole_one(store, tail, kept):
    store.write("h.jsonl", LINE.encode() + tail.encode("latin-1"))
    store.append("h.jsonl", '{"epoch": 2}\n{"epoch": 3}\n')
    assert [json.loads(line)["epoch"] for line in store.lines("h.jsonl")] == [*kept, 2, 3]


def test_appending_mends_a_file_that_is_only_a_torn_line(store):
    store.append("deep/h.jsonl", "")
    store.write("deep/h.jsonl", b'{"epo')
    store.append("deep/h.jsonl", LINE)
    assert store.read("deep/h.jsonl") == LINE.encode()


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_the_file_as_it_was(store, monkeypatch, call, raised):
    store.append("rows.jsonl", LINE)
    whole = os.write

    def stop(handle, *content):
        if content:
            whole(handle, bytes(content[0])[:5])
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(stores.os, call, stop)
        with pytest.raises((RunError, KeyboardInterrupt)) as caught:
            store.append("rows.jsonl", '{"epoch": 1}\n')
    if caught.type is RunError:
        assert "rows.jsonl: could not be written (No space left on device); free" in str(caught.value)
    assert store.read("rows.jsonl") == LINE.encode()


def test_a_vanished_folder_is_a_sentence_and_not_made_anew(store, tmp_path):
    gone = LocalStore(tmp_path / "gone")
    for change in (lambda: gone.append("rows.jsonl", LINE), lambda: gone.write("a/b", b"")):
        with pytest.raises(RunError, match=r"could not be written \(No such file or directory\); put the run's folder"):
            change()
    assert not (tmp_path / "gone").exists()


def append_many(folder, name, count):
    for number in range(count):
        LocalStore(folder).append("rows.jsonl", json.dumps({"of": name, "n": number, "pad": "x" * 5000}) + "\n")


def test_processes_that_append_take_turns(store, tmp_path):
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=append_many, args=(tmp_path, name, 40)) for name in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = [json.loads(line) for line in store.lines("rows.jsonl")]
    assert sorted((line["of"], line["n"]) for line in found) == [(of, n) for of in range(3) for n in range(40)]


def test_a_killed_process_leaves_a_file_that_is_mended(store, tmp_path):
    fork = multiprocessing.get_context("fork")
    for _ in range(5):
        worker = fork.Process(target=append_many, args=(tmp_path, 0, 10_000))
        worker.start()
        time.sleep(0.1)
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        store.append("rows.jsonl", LINE)
    lines = [json.loads(line) for line in store.lines("rows.jsonl")]
    assert sum("epoch" in line for line in lines) == 5 and len(lines) > 5


def test_a_file_that_is_replaced_while_another_process_waits_is_not_lost(store, tmp_path, monkeypatch):
    store.append("rows.jsonl", LINE)
    locks = stores._locks

    def replaced(handle):
        monkeypatch.setattr(stores, "_locks", locks)
        store.write("rows.jsonl", b'{"epoch": 7}\n')
        return locks(handle)

    monkeypatch.setattr(stores, "_locks", replaced)
    store.append("rows.jsonl", LINE)
    assert store.read("rows.jsonl") == b'{"epoch": 7}\n' + LINE.encode()


def test_an_append_reads_no_more_of_a_large_file_than_its_end(store, monkeypatch):
    store.write("rows.jsonl", 100_000 * LINE.encode())
    read = []
    pread = os.pread
    monkeypatch.setattr(stores.os, "pread", lambda *args: read.append(args[1]) or pread(*args))
    store.append("rows.jsonl", LINE)
    assert sum(read) <= 1 << 16
