"""Callbacks of a run on an object storage, where students and examples are not on the driver's machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import factories
from tskd_tune.callbacks import CALLBACKS, Callback, Heard, wandb_artifacts
from tskd_tune.callbacks.base import build
from tskd_tune.paths import Address
from tskd_tune.records.entries.events import Event, row_event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.storage.objects import Objects

WRITES = "import os, sys; open(sys.argv[1], 'w').write(os.environ['TSKD_TUNE_FOLDER'])"


class Tracker:
    """Stands for the W&B run: keeps what it is sent, and writes an offline file when it ends."""

    def __init__(self, folder: Path, *, key: str, **facts: object) -> None:
        self.folder, self.identity, self.warning = folder, {"id": f"{key}-artifacts-seed0"}, None
        self.sent: list[Any] = []

    def start(self, facts: object) -> None:
        """Begin."""

    def use(self, log: Any) -> None:
        log(SimpleNamespace(log_artifact=self.sent.append, log=self.sent.append))

    def finish(self, facts: object) -> None:
        path = self.folder / "wandb" / f"offline-run-20260101_000000-{self.identity['id']}" / "run.wandb"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"kept")


class Artifact:
    def __init__(self, name: str, *, type: str, metadata: object) -> None:
        self.kind, self.content = type, b""

    def add_file(self, path: str) -> None:
        self.content = Path(path).read_bytes()


@pytest.fixture
def run(memory: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run on a storage, with a student that another machine trained and a report that this one wrote."""
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "driver"))
    made = RunFolder.create(memory, "run", "sweep", {"wandb": {"project": "mine", "entity": None}})
    name = made.student_path("t0", 1).relative_to(made.path).as_posix()
    Objects(memory / "run").write(name, b"student 1")
    made.store.write("report.html", b"a report")
    return made


def built(run: RunFolder, **options: object) -> Callback:
    assert isinstance(run.place, Address)
    return build(CALLBACKS.slot().parse(options), Heard(run.name, run.path, run.place))


def test_students_are_brought_and_the_offline_files_are_kept_with_the_run(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Tracker] = []

    def opened(*given: Any, **facts: Any) -> Tracker:
        made.append(Tracker(*given, **facts))
        return made[0]

    monkeypatch.setattr(wandb_artifacts, "WandbTracker", opened)
    monkeypatch.setattr(wandb_artifacts, "images", lambda folder: {"from": folder.place})
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Artifact=Artifact))
    callback = built(run, name="wandb_artifacts")
    with run.alone():
        callback.hear(row_event(factories.a_row("t0", 1, "kd", metrics={"test_top1": 61.0})))
        callback.hear(Event("report", "", reason=run.store.place("report.html")))
        callback.close()
    student, report, images = made[0].sent
    assert (student.kind, student.content) == ("model", b"student 1")
    assert (report.kind, report.content) == ("report", b"a report")
    assert images == {"from": run.place}
    assert run.remote is not None
    assert any(name.endswith("-artifacts-seed0/run.wandb") for name in run.remote.objects.names("wandb"))


def test_a_command_hears_the_address_of_the_run(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    callback = built(run, name="command", words=[sys.executable, "-c", WRITES, str(out)], on=["ended"])
    callback.hear(Event("ended", ""))
    assert out.read_text() == str(run.place)
