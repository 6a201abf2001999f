"""Students and the report as W&B artifacts, against a server on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import factories
from benchmarks.wandb_stub import KEY, Server
from tskd_tune.callbacks import CALLBACKS, Callback, Heard
from tskd_tune.callbacks.base import build
from tskd_tune.errors import RunError
from tskd_tune.records.entries.events import Event, row_event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.offline import offline_runs, upload

pytestmark = [pytest.mark.usefixtures("no_wandb_account"), pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run with two students, one of which failed, and a report."""
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    made = RunFolder.create(tmp_path, "first", "sweep", {"wandb": {"project": "mine", "entity": None}})
    for seed in (1, 2):
        path = made.student_path("t0", seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"student %d" % seed)
    (made.path / "report.html").write_text("<html>a report</html>")
    return made


def told(folder: RunFolder) -> Callback:
    component = CALLBACKS.slot().parse({"name": "wandb_artifacts", "seconds": 20.0})
    callback = build(component, Heard(folder.name, folder.path))
    rows = [
        factories.a_row("t0", 1, "kd", metrics={"test_top1": 61.0}),
        factories.a_row("t0", 2, "kd", status="failed", reason="it diverged"),
    ]
    for row in rows:
        callback.hear(row_event(row))
    callback.hear(Event("report", "", reason=str(folder.path / "report.html")))
    return callback


def sent(server: Server) -> dict[str, dict[str, Any]]:
    inputs = [asked["input"] for asked in server.asked("CreateArtifact")]
    return {str(given["artifactTypeName"]): given for given in inputs}


@pytest.mark.parametrize("late", [False, True], ids=["at once", "by a later sync"])
def test_a_student_and_the_report_are_artifacts_of_a_run_of_the_sweep(
    late: bool, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    if late:
        server.close()
        with pytest.raises(RunError, match="W&B: the server .* is away .*tskd-tune sync"):
            told(folder).close()
        server.open()
        assert not upload(offline_runs(folder.path)).failed
    else:
        told(folder).close()
    found = sent(server)
    assert sorted(found) == ["model", "report"] and len(server.asked("CreateArtifact")) == 2
    assert "student" in found["model"]["artifactCollectionName"]
    metadata = json.loads(found["model"]["metadata"])
    assert metadata["arm"] == "kd" and metadata["seed"] == 1 and metadata["metrics"] == {"test_top1": 61.0}
    assert metadata.keys() >= {"identity", "sweep", "point", "epochs"}
    assert found["model"]["projectName"] == "mine" and found["model"]["runName"].endswith("artifacts-seed0")
    assert server.uploads["/artifact/report.html"] == b"<html>a report</html>"
    assert b"student 1" in server.uploads.values() and b"student 2" not in server.uploads.values()
    assert len(server.asked("CommitArtifact")) == 2
    server.close()
