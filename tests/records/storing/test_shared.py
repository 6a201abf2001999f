"""A run in a folder of a network file system: a driver of another machine is told, and stops when it was overtaken."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing import shared
from tskd_tune.storage import lease
from tskd_tune.storage.lease import LostLeaseError

FAR = {"host": "far-host", "machine": "far-host/boot", "pid": 7, "started": 1.0, "released": False}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setattr(shared, "is_network", lambda folder: True)
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    return RunFolder.create(tmp_path, "run", "sweep", {})


def far(run: RunFolder, token: int) -> None:
    (run.path / "lease").mkdir(exist_ok=True)
    (run.path / "lease" / f"{token:08d}.json").write_text(json.dumps(FAR))


def test_a_driver_of_another_machine_is_told(run: RunFolder) -> None:
    far(run, 3)
    with (
        pytest.raises(InputError, match="process 7 of far-host trains this run"),
        run.alone(),
    ):
        pass


def test_a_driver_that_was_overtaken_writes_no_more(run: RunFolder) -> None:
    with pytest.raises(LostLeaseError, match="process 7 of far-host has taken this run over"), run.alone():
        run.append_history("0", [{"seed": 1, "epoch": 0}])
        far(run, 2)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            run.append_history("0", [{"seed": 1, "epoch": 1}])
            time.sleep(0.02)


def test_a_driver_that_ends_leaves_the_run_free(run: RunFolder) -> None:
    for _ in range(2):
        with run.alone():
            run.append_history("0", [{"seed": 1, "epoch": 0}])
    assert len(run.history("0")) == 1
    told = [json.loads(line) for line in (run.path / "sittings.jsonl").read_text().splitlines()]
    assert all({"host", "pid"} <= line.keys() for line in told if "begun" in line)


def test_a_folder_of_this_machine_holds_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(tmp_path, "run", "sweep", {})
    with run.alone():
        assert not (run.path / "lease").exists()
    mounts = [("/", "ext4"), (str(tmp_path), "nfs4"), (str(tmp_path / "run"), "tmpfs")]
    parts = [SimpleNamespace(mountpoint=place, fstype=kind) for place, kind in mounts]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: parts)
    assert shared.is_network(tmp_path / "other") and not shared.is_network(tmp_path / "run" / "x")
