"""A user edits the ``sweep.yaml`` of a run on an object storage, as the file of a run in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.records.protocols.protocol import Terms, keep
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.storage.objects import Objects

Elsewhere = Callable[[str], None]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Elsewhere:
    """Go on as on another machine, with an empty cache."""

    def go(name: str) -> None:
        monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / name))

    go("first")
    return go


@pytest.fixture
def run(memory: Address, elsewhere: Elsewhere) -> RunFolder:
    found = RunFolder.create(memory, "run", "sweep", {"compare": {"margin": 0.3}})
    with found.alone():
        keep(found, "start", Terms(margin=0.3))
    return found


def edit(run: RunFolder, text: str) -> None:
    assert isinstance(run.place, Address)
    Objects(run.place).write("sweep.yaml", text.encode())


def margin(run: RunFolder) -> object:
    return RunFolder.open(run.place).document()["compare"]["margin"]


def test_an_edit_is_seen_from_every_machine_and_a_driver_keeps_it(run: RunFolder, elsewhere: Elsewhere) -> None:
    edit(run, "compare: {margin: 2.0}\n")
    assert margin(run) == 2.0
    elsewhere("second")
    assert margin(run) == 2.0
    edit(run, "compare: {margin: 0.3}\n")
    assert margin(run) == 0.3, "it was changed back"
    edit(run, "compare: {margin: 2.0}\n")
    resumed = RunFolder.open(run.place)
    with resumed.alone():
        assert resumed.document()["compare"]["margin"] == 2.0
    Objects(resumed.remote.objects.address).delete("sweep.yaml") if resumed.remote else None
    elsewhere("third")
    assert margin(run) == 2.0, "the run's log has it"


def test_what_a_run_writes_is_no_edit(run: RunFolder, elsewhere: Elsewhere) -> None:
    with run.alone():
        run.replace_document({"compare": {"margin": 0.3}, "seeds": [1]})
        assert run.remote is not None
        assert b"seeds" in (run.remote.objects.read("sweep.yaml") or b""), "at once, should this process be killed"
        edit(run, "compare: {margin: 4.0}\n")  # while it is trained
    assert margin(run) == 4.0
    elsewhere("second")
    assert margin(run) == 4.0


def test_a_file_that_a_driver_cannot_read_is_named_by_its_address_and_changes_nothing(
    run: RunFolder, elsewhere: Elsewhere
) -> None:
    assert run.remote is not None
    for content in (b"compare: [1", b"\xff\xfe"):
        run.remote.objects.write("sweep.yaml", content)
        with pytest.raises(InputError, match=rf"^{run.place}/sweep.yaml:? ?\S*"):
            RunFolder.open(run.place).document()
        with pytest.raises(InputError, match=rf"^{run.place}/sweep.yaml:? ?\S*"), RunFolder.open(run.place).alone():
            pass
    run.remote.objects.delete("sweep.yaml")
    elsewhere("second")
    assert margin(run) == 0.3


def test_a_run_that_keeps_no_protocol_reads_its_log(memory: Address, elsewhere: Elsewhere) -> None:
    old = RunFolder.create(memory, "run", "sweep", {"compare": {"margin": 0.3}})
    edit(old, "compare: {margin: 2.0}\n")  # an earlier version wrote this file when a driver ended, so it may be old
    assert margin(old) == 0.3
