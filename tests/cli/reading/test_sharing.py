"""`sync` and `report --wandb` against a server of our own, which speaks the calls of W&B's client and keeps them."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import wandb
from typer.testing import CliRunner

import factories
from benchmarks.wandb_stub import KEY, Server
from tskd_tune.cli import app
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb import offline
from tskd_tune.records.wandb.tracking import WandbTracker

pytestmark = pytest.mark.usefixtures("no_wandb_account")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()
    monkeypatch.setenv("WANDB_BASE_URL", served.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    yield served
    served.close()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the offline W&B runs of three trainings, two arms, as `WandbTracker` leaves them."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("HOME", str(folder))
        wandb.teardown()
        for arm, seed in (("none", 1), ("tskd", 1), ("tskd", 2)):
            tracker = WandbTracker(folder, sweep="first", key="first", run=arm, seed=seed, arm=arm, deadline=300.0)
            tracker.start({"student": {"name": "resnet20"}})
            for epoch in range(3):
                tracker.log(epoch, {"phase": "general", "loss": 2.0 - epoch, "val_top1": 10.0 + seed + epoch})
            tracker.finish({"status": "done", "test_top1": 60.0 + seed})
            assert tracker.warning is None
        wandb.teardown()
    return folder / "wandb"


def a_row(arm: str, seed: int) -> Row:
    return factories.a_row(arm, seed, arm, planned=3, metrics={"test_top1": 60.0 + seed})


@pytest.fixture
def folder(tmp_path: Path, tracked: Path) -> RunFolder:
    """The run `first`, under `runs`, with its rows, histories and offline W&B runs."""
    made = RunFolder.create(tmp_path / "runs", "first", "sweep", {})
    rows = [a_row("none", 1), a_row("tskd", 1), a_row("tskd", 2)]
    factories.write_rows(made, rows)
    for row in rows:
        made.append_history(row.run, [{"seed": row.seed, "epoch": epoch, "val_top1": 10.0} for epoch in range(3)])
    shutil.copytree(tracked, made.path / "wandb")
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command in an empty folder, which it must leave without a folder of W&B's; it ends with the given code."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert not (tmp_path / "wandb").exists()
        return result

    return invoke


def keep(folder: RunFolder, *ids: str) -> None:
    """Leave only these offline runs, since each takes its time to upload."""
    for one in offline.offline_runs(folder.path):
        if one.id not in ids:
            shutil.rmtree(one.path)


def state(folder: RunFolder) -> dict[str, bool]:
    return {one.id: one.uploaded for one in offline.offline_runs(folder.path)}


# sync


def test_sync_uploads_every_offline_run_once(run: Callable[..., Any], folder: RunFolder, server: Server) -> None:
    text = run("sync", "first").stdout
    assert "runs/first: 3 offline W&B runs, 0 of them uploaded before" in text
    for name in ("first-none-seed1", "first-tskd-seed1", "first-tskd-seed2"):
        assert f"uploaded: {name}  {server.url}/someone/tskd-tune/runs/{name}" in text
        lines = server.history(f"/files/someone/tskd-tune/{name}/file_stream")
        seed = int(name[-1])
        assert [(line["epoch"], line["val_top1"]) for line in lines] == [(e, 10.0 + seed + e) for e in range(3)]
        last = server.streams[f"/files/someone/tskd-tune/{name}/file_stream"][-1]
        assert (last["complete"], last["exitcode"]) == (True, 0)
    groups = {asked["name"]: asked["groupName"] for asked in server.asked("UpsertBucket") if asked["groupName"]}
    assert groups == {"first-none-seed1": "none", "first-tskd-seed1": "tskd", "first-tskd-seed2": "tskd"}
    assert all(state(folder).values())

    before = len(server.calls)
    assert "all 3 offline W&B runs were uploaded before" in run("sync", "first").stdout
    assert len(server.calls) == before
    assert "kept offline" not in run("report", "first").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "variables", "place"),
    [
        ((), {"WANDB_ENTITY": "team", "WANDB_PROJECT": "mine", "WANDB_MODE": "offline"}, "team/mine"),
        (("--entity", "lab", "--project", "ours"), {"WANDB_ENTITY": "team", "WANDB_PROJECT": "mine"}, "lab/ours"),
    ],
    ids=["variables", "options"],
)
def test_sync_goes_where_the_options_or_the_variables_say(
    run: Callable[..., Any],
    folder: RunFolder,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    variables: dict[str, str],
    place: str,
) -> None:
    keep(folder, "first-none-seed1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run("sync", "first", *words)
    assert list(server.streams) == [f"/files/{place}/first-none-seed1/file_stream"]


def test_sync_needs_a_key(
    run: Callable[..., Any], folder: RunFolder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    text = run("sync", "first", code=2).stderr
    assert f"there is no key for {server.url}; log in with `wandb login` or set WANDB_API_KEY" in text
    assert (server.calls, any(state(folder).values())) == ([], False)


def test_sync_loses_nothing_where_the_server_is_away(
    run: Callable[..., Any], folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    text = run("sync", "first", code=1).stderr
    assert "the server http://127.0.0.1:9 is away" in text and "nothing is lost" in text
    assert not any(state(folder).values())


@pytest.mark.slow
def test_sync_goes_on_after_a_server_that_refused(run: Callable[..., Any], folder: RunFolder, server: Server) -> None:
    keep(folder, "first-none-seed1")
    server.refusing = True
    text = run("sync", "first", code=1).stderr
    assert "1 offline W&B run could not be uploaded" in text and "first-none-seed1" in text
    assert "permission denied" in text
    assert state(folder) == {"first-none-seed1": False}
    server.refusing = False
    assert "uploaded: first-none-seed1" in run("sync", "first").stdout
    assert state(folder) == {"first-none-seed1": True}


def test_sync_warns_of_a_run_that_is_not_complete_and_uploads_the_others(
    run: Callable[..., Any], folder: RunFolder, server: Server
) -> None:
    keep(folder, "first-none-seed1", "first-tskd-seed1")
    (file,) = (folder.path / "wandb").glob("*none-seed1/*.wandb")
    file.write_bytes(file.read_bytes()[:-60])
    text = run("sync", "first").stdout
    assert f"warning: {file.parent.name}: is still being written, or was cut off" in text
    assert state(folder) == {"first-none-seed1": False, "first-tskd-seed1": True}
    file.write_bytes(file.read_bytes()[:7])  # its head alone: what a run of a minute has on the disk
    assert "is still being written, or was cut off" in run("sync", "first").stdout


HANGING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]])
print("wandb: Syncing", flush=True)
time.sleep(600)
"""


def test_an_upload_that_stalls_is_ended_with_all_its_processes(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = offline.offline_runs(folder.path)
    monkeypatch.setattr(offline, "_command", lambda *_: [sys.executable, "-c", HANGING, str(folder.path)])
    found = offline.upload(runs, stall=1.0)
    assert (found.stalled, found.failed, found.uploaded) == (True, runs, [])

    def left() -> list[list[str]]:
        lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if str(folder.path) in line]

    until = time.monotonic() + 120
    while left() and time.monotonic() < until:  # a killed process is seen until a busy machine lets it end
        time.sleep(0.1)
    assert left() == []


def test_sync_says_so_where_there_is_nothing_to_upload(run: Callable[..., Any], folder: RunFolder) -> None:
    keep(folder)
    assert "there are no offline W&B runs to upload" in run("sync", "first").stdout
    assert "there is no run 'frist'" in run("sync", "frist", code=2).stderr


# report --wandb


def test_a_report_is_saved_and_saved_again_in_its_place(
    run: Callable[..., Any], folder: RunFolder, server: Server
) -> None:
    link = f"W&B report: {server.url}/someone/tskd-tune/reports/first:-sweep--Vmlldzox"
    assert link in run("report", "first", "--wandb").stdout
    kept = json.loads((folder.path / "wandb-report.json").read_text())
    (asked,) = server.asked("upsertView")
    assert (asked["entityName"], asked["projectName"], asked["displayName"]) == ("someone", "tskd-tune", "first: sweep")
    assert (asked["id"], asked["type"]) == (None, "runs")
    assert json.loads(asked["spec"]) == kept["spec"]
    assert (kept["entity"], kept["id"], kept["server"]) == ("someone", "Vmlldzox", server.url)
    assert {"entityName": "someone", "projectName": "tskd-tune"} in server.asked("ProjectInternalId")

    again = run("report", "first", "--wandb", "--json")
    assert json.loads(again.stdout)["run"] == "first" and link in again.stderr
    assert server.asked("upsertView")[1]["id"] == "Vmlldzox"
    assert json.loads((folder.path / "wandb-report.json").read_text()) == kept


def test_a_report_without_a_key_is_a_spec_and_the_way_to_publish_it(
    run: Callable[..., Any], folder: RunFolder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    text = run("report", "first", "--wandb").stdout
    assert f"there is no key for {server.url}, so only its spec was written: runs/first/wandb-report.json" in text
    assert "wandb login" in text and "tskd-tune sync runs/first" in text
    kept = json.loads((folder.path / "wandb-report.json").read_text())
    assert (kept["url"], kept["spec"]["version"], server.calls) == (None, 5, [])


def test_a_report_for_a_server_that_is_away_leaves_its_spec(
    run: Callable[..., Any], folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    text = run("report", "first", "--wandb", code=1).stderr
    assert "is away" in text and "the report's spec is in runs/first/wandb-report.json" in text
    assert (folder.path / "wandb-report.json").exists()


@pytest.mark.parametrize(("refusing", "projects"), [(True, ["tskd-tune"]), (False, [])], ids=["refused", "no project"])
def test_a_report_that_is_not_taken_says_what_to_do(
    run: Callable[..., Any], folder: RunFolder, server: Server, refusing: bool, projects: list[str]
) -> None:
    server.refusing, server.projects = refusing, projects
    text = run("report", "first", "--wandb", code=1).stderr
    assert "W&B did not take the report" in text and "upload the runs with `tskd-tune sync` first" in text
    assert ("permission denied" if refusing else "'someone/tskd-tune' not found") in text
