"""A store on an object storage does what a store in a folder does, and its log is read from anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faults import AWAY, Faulty

from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.records.runs import remote_run
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing import log, uploader
from tskd_tune.records.storing.log import Change, Player
from tskd_tune.records.storing.store import LocalStore, Store
from tskd_tune.storage import objects

LINE = '{"epoch": 0}\n'


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with ExitStack() as stack:
        if request.param == "folder":
            yield LocalStore(tmp_path)
            return
        monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "cache"))
        run = RunFolder.create(request.getfixturevalue("memory"), "run", "sweep", {})
        stack.enter_context(run.alone())
        yield run.store


def test_a_store_keeps_its_contract(store: Store, tmp_path: Path) -> None:
    assert store.read("trials/a/trial.json") is None and store.version("x") is None and list(store.lines("gone")) == []
    store.write("trials/a/trial.json", b"old")
    first = store.version("trials/a/trial.json")
    store.write("trials/a/trial.json", b"newer")
    assert store.read("trials/a/trial.json") == b"newer" and store.version("trials/a/trial.json") != first
    file = tmp_path / "student"
    file.write_bytes(b"\x00\xff")
    store.write("trainings/x/student.pth", file)
    assert store.read("trainings/x/student.pth") == b"\x00\xff"
    store.append("trainings/x/history.jsonl", LINE, durable=False)
    store.append("trainings/x/history.jsonl", LINE)
    store.sync("trainings/x/history.jsonl")
    assert list(store.lines("trainings/x/history.jsonl")) == [LINE.encode()] * 2
    assert store.names("trainings/x") == ["history.jsonl", "student.pth"] and "trainings/" in store.names()
    store.delete("trials/a/trial.json")
    store.delete("trials/a/trial.json")
    assert store.read("trials/a/trial.json") is None
    assert store.place("rows.jsonl").endswith("/rows.jsonl")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    def go(name: str) -> None:
        monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / name))

    go("first")
    return go


def test_many_small_parts_become_one_and_are_read_alike(
    memory: Address, elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploader, "SOON", 0.0)
    monkeypatch.setattr(uploader, "JOIN_AFTER", 4)
    monkeypatch.setattr(remote_run, "JOIN_FROM", 2)
    run = RunFolder.create(memory, "run", "sweep", {"a": 1})
    for sitting in range(3):
        with run.alone():
            for number in range(4):
                run.append_history("0", [{"seed": 1, "epoch": 4 * sitting + number, "loss": 1.0}])
                run.store.append("teachers.jsonl", LINE)  # goes at once
        elsewhere(f"machine {sitting}")
        run = RunFolder.open(memory / "run")
        assert [line.epoch for line in run.history("0")] == list(range(4 * sitting + 4))
        assert len(list(run.store.lines("teachers.jsonl"))) == 4 * sitting + 4
    assert run.remote is not None and run.document() == {"a": 1}
    parts = run.remote.objects.names("log")
    assert any(name.endswith(log.JOINED) for name in parts) and len(parts) < 8


def test_a_part_that_is_joined_while_it_is_read_is_found_again(
    memory: Address, elsewhere: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Faulty()
    monkeypatch.setattr(objects, "_opened", lambda address: (system, address.url.partition("://")[2]))
    run = RunFolder.create(memory, "run", "sweep", {})
    with run.alone():
        run.append_history("0", [{"seed": 1, "epoch": 0, "loss": 1.0}])
    remote = run.remote
    assert remote is not None
    names = sorted(name.removeprefix("log/") for name in remote.objects.names("log"))
    contents = [(name, remote.objects.read(f"log/{name}") or b"") for name in names]
    joined, content = log.joined(contents, "log")
    elsewhere("second")
    lists = iter([True])

    def joins(call: str, path: str) -> None:
        if call == "get_file" and next(lists, False):  # between the list of names and the first read
            remote.objects.write(f"log/{joined}", content)
            for name in names:
                remote.objects.delete(f"log/{name}")

    system.fails = joins  # type: ignore[assignment]
    assert [line.epoch for line in RunFolder.open(memory / "run").history("0")] == [0]
    assert next(lists, None) is None


def test_a_line_that_is_no_change_is_left_out_and_leads_nowhere(tmp_path: Path) -> None:
    lines = [
        Change("rows.jsonl", "append", LINE).line(),
        json.dumps(["write", "../outside", "x"]) + "\n",
        json.dumps(["write", "/outside", "x"]) + "\n",
        json.dumps(["run", "rows.jsonl", "x"]) + "\n",
        "{\n",
        Change("rows.jsonl", "append", LINE).line()[:-5],
    ]
    player = Player(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"s3://b/log/x:2: is no change of a file .*; the line is ignored") as told:
        player.play("".join(lines).encode(), "s3://b/log/x")
        player.finish()
    assert len(told) == 4, "a last line that was cut off is nothing to tell"
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run", "run/rows.jsonl"]


def test_a_joined_part_holds_what_counts(tmp_path: Path) -> None:
    changes = [
        [Change("a.json", "write", "1"), Change("h.jsonl", "append", "x\n"), Change("gone.txt", "write", "1")],
        [Change("a.json", "write", "2"), Change("h.jsonl", "append", "y\n"), Change("gone.txt", "delete")],
    ]
    parts = [(str(number), "".join(map(Change.line, part)).encode()) for number, part in enumerate(changes)]
    name, content = log.joined(parts, "log")
    assert name == "1~" and log.replaced(content) == ["0", "1"] and len(list(log.changes(content, ""))) == 3
    player = Player(tmp_path)
    player.play(content, "log")
    player.finish()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "2", "h.jsonl": "x\ny\n"}


def test_storage_that_cannot_be_used_is_refused_before_anything_is_trained(
    memory: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = Faulty()
    monkeypatch.setattr(objects, "_opened", lambda address: (system, address.url.partition("://")[2]))
    system.fails = lambda call, path: PermissionError("Access Denied") if call == "pipe_file" else None
    with pytest.raises(
        InputError, match=rf"--storage {memory}: .* refuses this user .*AWS_PROFILE.*; nothing was started"
    ):
        RunFolder.free(memory, "run")
    system.fails = lambda call, path: AWAY
    with pytest.raises(InputError, match="does not answer"):
        RunFolder.free(memory, "run")
    system.fails = lambda call, path: None
    assert RunFolder.free(memory, "run") == memory / "run" and system.system.find(memory.url) == []
    with pytest.raises(InputError, match=rf"there is no run '{memory}/run'; {memory} holds no run"):
        RunFolder.open(memory / "run")
    RunFolder.create(memory, "run", "sweep", {})
    with pytest.raises(InputError, match=rf"there is no run '{memory}/other'; {memory} holds: run"):
        RunFolder.open("other", memory)
