from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb import server as wandb_server
from tskd_tune.records.wandb.offline import offline_runs
from tskd_tune.records.wandb.server import ID_LENGTH, Connection, Place, run_id
from tskd_tune.records.wandb.tracking import OWN_NAMES, PHASES, UNSENT, WandbTracker, settle

pytestmark = pytest.mark.usefixtures("no_wandb_account")

KEY = "0123456789abcdef" * 2 + "01234567"
LEET = Path(sys.executable).with_name("wandb")


def a_tracker(folder, seed=1, deadline=20.0, **changes):
    names = {"sweep": "first", "key": "first", "run": "t0", "arm": "tskd", "job_type": "sweep"} | changes
    return WandbTracker(folder, seed=seed, deadline=deadline, **names)


def inspected(folder):
    """Read an offline run back with W&B's own reader: its records by type, in order."""
    done = subprocess.run([LEET, "leet", "inspect", "--json", folder], capture_output=True, text=True, check=True)
    records: dict[str, list] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record.get(record["type"]))
    return records


def items(records):
    return [record["item"] for record in records["history"]]


def last_values(records):
    values = {}
    for record in records["summary"]:
        values |= record.get("update", {})
    return values


def test_two_seeds_in_one_process_and_a_resume_are_kept_offline(tmp_path, capfd):
    first, second = a_tracker(tmp_path, 1), a_tracker(tmp_path, 2)
    for tracker in (first, second):
        tracker.start({"student": {"name": "resnet20"}, "deviations": ["k is 6"]})
    for epoch, phase in enumerate(("memorize", "review")):
        first.log(epoch, {"phase": phase, "loss": 2.0 - epoch, "lr": 0.1})
        second.log(epoch, {"phase": phase, "loss": 4.0 - epoch, "lr": 0.1})
    first.finish({"cost_seconds": 12.5})
    second.finish({}, failed=True)
    again = a_tracker(tmp_path, 1)
    again.start({"student": {"name": "resnet20"}})
    again.log(2, {"phase": "memorize+review", "loss": 0.5})
    again.finish({"cost_seconds": 20.0})

    assert [tracker.warning for tracker in (first, second, again)] == [None, None, None]
    assert capfd.readouterr() == ("", "")
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(folders) == 3
    ones = [inspected(path) for path in folders if "seed1" in path.name]
    ones.sort(key=lambda records: items(records)[0]["epoch"])
    run = ones[0]["run"][0]
    assert (run["run_id"], run["run_group"], run["job_type"]) == ("first-t0-seed1", "tskd", "sweep")
    assert (run["project"], run["resume"]) == ("tskd-tune", True)
    config = run["config"]["update"]
    assert (config["arm"], config["seed"], config["trial"]) == ("tskd", 1, "t0")
    assert (config["student"], config["deviations"]) == ({"name": "resnet20"}, ["k is 6"])
    assert ones[0]["metric"][0]["step_metric"] == "epoch"
    assert [(item["epoch"], item["_step"], item["loss"]) for item in items(ones[0])] == [(0, 0, 2.0), (1, 1, 1.0)]
    assert [(item["phase"], item["phase_code"]) for item in items(ones[0])] == [("memorize", 1), ("review", 2)]
    assert last_values(ones[0])["cost_seconds"] == 12.5
    assert ones[0]["exit"] != inspected(next(path for path in folders if "seed2" in path.name))["exit"]
    assert ones[1]["run"][0]["run_id"] == "first-t0-seed1"
    assert [(item["epoch"], item["_step"], item["phase_code"]) for item in items(ones[1])] == [(2, 2, 3)]


def test_a_server_that_is_away_leaves_offline_files_within_the_deadline(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    tracker = a_tracker(tmp_path, deadline=5.0)
    begun = time.perf_counter()
    tracker.start({"student": "resnet20"})
    tracker.log(0, {"loss": 1.0})
    assert time.perf_counter() - begun < 0.2
    tracker.finish({})
    assert time.perf_counter() - begun < 5.5
    assert "the server http://127.0.0.1:9 is away" in tracker.warning
    assert "Connection refused" in tracker.warning
    assert "tskd-tune sync" in tracker.warning
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert [item["loss"] for item in items(inspected(folder))] == [1.0]
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "Loaded credentials" not in "".join(capfd.readouterr())


class FakeRun:
    def __init__(self, **calls):
        self.calls = calls
        self.lines = []
        self.summary = {}

    def define_metric(self, name, step_metric):
        pass

    def log(self, line, step, commit):
        self.calls.get("log", lambda: None)()
        self.lines.append(line)

    def finish(self, exit_code):
        self.calls.get("finish", lambda: None)()


def answering(url, timeout):
    raise urllib.error.HTTPError(url, 404, "nothing at the root", None, None)


@pytest.fixture
def fake(monkeypatch):
    """Put a double in W&B's place: its init is given the keyword arguments and returns what the test likes."""
    asked = []

    def use(init, **settings):
        known = {"mode": "online", "project": None, "api_key": None, "identity_token_file": None}
        known |= {"entity": None, "base_url": "https://api.example.org"} | settings
        monkeypatch.setattr(wandb, "setup", lambda settings: SimpleNamespace(settings=SimpleNamespace(**known)))
        monkeypatch.setattr(wandb_server.urllib.request, "urlopen", answering)
        monkeypatch.setattr(wandb, "init", lambda **named: asked.append(named) or init(**named))
        return asked

    return use


def raising():
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    "run",
    [None, FakeRun(log=raising), FakeRun(finish=raising), FakeRun(log=lambda: sys.exit(3))],
    ids=["init", "log", "finish", "exit"],
)
def test_what_raises_ends_the_tracking_with_one_sentence(tmp_path, fake, caplog, run):
    asked = fake(lambda **named: run if run is not None else raising())
    tracker = a_tracker(tmp_path)
    with caplog.at_level(logging.WARNING):
        tracker.start({})
        for epoch in range(3):
            tracker.log(epoch, {"loss": 1.0})
        tracker.finish({})
    assert len(asked) == 1
    assert len(caplog.records) == 1
    assert "W&B: tracking of this run ended" in tracker.warning
    assert f"{tracker.warning} (run first-t0-seed1)" == caplog.records[0].getMessage()
    tracker.log(3, {"loss": 1.0})
    tracker.finish({})
    assert len(caplog.records) == 1


def test_an_unknown_phase_cannot_fail_a_training(tmp_path, fake):
    fake(lambda **named: FakeRun())
    tracker = a_tracker(tmp_path)
    tracker.start({})
    tracker.log(0, {"phase": "dreaming"})
    tracker.finish({})
    assert "KeyError: 'dreaming'" in tracker.warning


def test_a_finish_that_hangs_is_left_at_the_deadline(tmp_path, fake):
    release = threading.Event()
    fake(lambda **named: FakeRun(finish=release.wait))
    tracker = a_tracker(tmp_path, deadline=0.2)
    tracker.start({})
    begun = time.perf_counter()
    tracker.finish({})
    assert 0.15 < time.perf_counter() - begun < 1.0
    release.set()
    assert "did not finish within 0.2 s" in tracker.warning


@pytest.mark.parametrize("sent", [True, False])
def test_a_run_that_takes_long_ends_beside_the_next_training(tmp_path, fake, sent):
    entered, release, files = threading.Event(), threading.Event(), tmp_path / "run" / "files"
    files.mkdir(parents=True)
    run = FakeRun(finish=lambda: (entered.set(), release.wait()))
    run.dir = str(files)
    fake(lambda **named: run)
    tracker = a_tracker(tmp_path, deadline=10.0 if sent else 3.0, patience=0.1, connection=Connection(None))
    tracker.start({})
    begun = time.perf_counter()
    tracker.finish({})
    assert time.perf_counter() - begun < 2.0 and tracker.warning is None
    assert entered.wait(10)
    assert (files.parent / UNSENT).exists(), "a process that is killed now has not sent all"
    if sent:
        release.set()
    settle()
    assert (files.parent / UNSENT).exists() != sent
    assert (tracker.warning is None) == sent
    release.set()


def test_one_training_waits_for_a_server_that_is_away_and_those_after_it_do_not(tmp_path, fake):
    release = threading.Event()
    fake(lambda **named: FakeRun(finish=lambda: release.wait(30)))
    waited = []
    for seed in (1, 2, 3):
        tracker = a_tracker(tmp_path, seed, deadline=20.0, patience=0.6, connection=Connection(None))
        tracker.start({})
        begun = time.perf_counter()
        tracker.finish({})
        waited.append(time.perf_counter() - begun)
    assert waited[0] >= 0.6 and max(waited[1:]) < 0.5
    release.set()
    settle()


def test_a_log_before_the_start_or_after_the_finish_goes_nowhere(tmp_path, fake):
    run = FakeRun()
    asked = fake(lambda **named: run)
    tracker = a_tracker(tmp_path)
    tracker.log(0, {})
    tracker.finish({})
    assert asked == []
    tracker.start({})
    tracker.start({})
    tracker.finish({"a": 1})
    tracker.log(1, {})
    assert (len(asked), run.lines, run.summary, tracker.warning) == (1, [], {"a": 1}, None)


def test_disabled_touches_nothing(tmp_path, fake, monkeypatch):
    asked = fake(lambda **named: FakeRun())
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = a_tracker(tmp_path)
    tracker.start({})
    tracker.log(0, {})
    tracker.finish({})
    assert (asked, list(tmp_path.iterdir()), tracker.warning) == ([], [], None)


def began(tracker):
    tracker.start({})
    tracker.finish({})


def test_a_key_or_a_netrc_of_the_server_means_online(tmp_path, fake, monkeypatch):
    asked = fake(lambda **named: FakeRun(), api_key=KEY)
    began(a_tracker(tmp_path))
    asked = fake(lambda **named: FakeRun())
    began(a_tracker(tmp_path))
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    netrc.write_text(f"machine elsewhere.org login user password {KEY}\n")
    began(a_tracker(tmp_path))
    netrc.write_text(f"machine api.example.org login user password {KEY}\n")
    began(a_tracker(tmp_path))
    netrc.write_text("machine api.example.org nonsense")
    began(a_tracker(tmp_path))
    assert [named.get("mode") for named in asked] == [None, "offline", "offline", None, "offline"]
    assert KEY not in repr(asked)


def test_a_server_that_refuses_leaves_offline_files_under_an_id_of_their_own(tmp_path, fake):
    run = FakeRun()
    asked = fake(lambda **named: run if named.get("mode") else raising(), api_key=KEY)
    tracker = a_tracker(tmp_path)
    tracker.start({})
    tracker.log(0, {"loss": 1.0})
    tracker.finish({})
    assert [named["id"] for named in asked] == ["first-t0-seed1", "first-t0-seed1-offline"]
    assert run.lines == [{"loss": 1.0, "epoch": 0}]
    assert "the server refused it (out of order)" in tracker.warning


def test_the_environment_decides_mode_and_project(tmp_path, fake, monkeypatch):
    asked = fake(lambda **named: FakeRun(), api_key=KEY, mode="offline", project="mine")
    began(a_tracker(tmp_path))
    assert (asked[0]["mode"], asked[0]["project"]) == ("offline", "mine")
    fake(lambda **named: FakeRun())
    monkeypatch.setenv("WANDB_MODE", "online")
    tracker = a_tracker(tmp_path)
    began(tracker)
    assert (asked[1]["mode"], asked[1]["project"]) == ("offline", "tskd-tune")
    assert "there is no key" in tracker.warning


def test_the_sweep_names_project_and_entity_where_the_environment_does_not(tmp_path, fake):
    place = Place.of({"wandb": {"project": "theirs", "entity": "lab"}})
    asked = fake(lambda **named: FakeRun(), api_key=KEY, mode="offline")
    began(a_tracker(tmp_path, place=place))
    fake(lambda **named: FakeRun(), api_key=KEY, mode="offline", project="mine", entity="me")
    began(a_tracker(tmp_path, place=place))
    assert [(named["project"], named["entity"]) for named in asked] == [("theirs", "lab"), ("mine", "me")]
    assert Place.of({}) == Place(None, None)


def a_state(folder, **facts):
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps(facts))
    return folder


def the_id(folder, sweep="first"):
    return WandbTracker(folder, sweep=sweep, run="0", seed=1, arm="kd").identity["id"]


def test_ids_are_unique_to_the_run_and_stay_with_it(tmp_path):
    one, other = (RunFolder.create(tmp_path / root, "first", "sweep", {}) for root in ("a", "b"))
    assert the_id(one.path).startswith("first-")
    assert the_id(one.path) != the_id(other.path)
    moved = one.path.rename(tmp_path / "elsewhere")
    assert the_id(moved, "elsewhere") == the_id(RunFolder.open(moved).path) == run_id(str(one.state.id), "0", 1)
    chinese = [RunFolder.create(tmp_path, name, "sweep", {}).path for name in ("温度", "特征")]
    assert len({the_id(path, path.name) for path in chinese}) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", the_id(path, path.name)) for path in chinese)


def test_a_folder_of_an_earlier_version_keeps_its_ids_and_one_without_records_goes_by_its_path(tmp_path):
    assert the_id(a_state(tmp_path / "old", format=1)) == "first-0-seed1"
    assert the_id(Path("/a/runs/first")) == the_id(Path("/a/runs/first")) != the_id(Path("/b/runs/first"))


def test_what_the_environment_says_of_one_run_names_no_training(tmp_path, fake, monkeypatch):
    asked = fake(lambda **named: FakeRun(), api_key=KEY)
    for name in OWN_NAMES:
        monkeypatch.setenv(name, "mine")
    for seed in (1, 2):
        began(a_tracker(tmp_path, seed))
    assert [named["id"] for named in asked] == ["first-t0-seed1", "first-t0-seed2"]
    assert not any(name in os.environ for name in OWN_NAMES)


def test_the_rest_of_an_online_run_that_fails_midway_is_kept_offline_for_a_sync(tmp_path, fake):
    online, offline = FakeRun(), FakeRun()
    online.dir = str(tmp_path / "wandb" / "run-20260101_000000-first-t0-seed1" / "files")
    Path(online.dir).mkdir(parents=True)
    asked = fake(lambda **named: offline if named.get("mode") else online, api_key=KEY)
    tracker = a_tracker(tmp_path)
    tracker.start({"student": "resnet8"})
    tracker.log(0, {"loss": 2.0})
    while not online.lines:
        time.sleep(0.01)
    online.calls["log"] = raising
    for epoch in (1, 2):
        tracker.log(epoch, {"loss": 1.0})
    tracker.finish({"cost_seconds": 3.0})
    assert [line["epoch"] for line in online.lines] == [0]
    assert [line["epoch"] for line in offline.lines] == [1, 2]
    assert offline.summary == {"cost_seconds": 3.0}
    assert [named["id"] for named in asked] == ["first-t0-seed1", "first-t0-seed1-offline"]
    assert "the server stopped accepting this run (RuntimeError: out of order)" in tracker.warning
    assert [one.id for one in offline_runs(tmp_path)] == ["first-t0-seed1"], "what the server lacks is sent by a sync"


def test_one_look_at_the_server_serves_all_runs(tmp_path, fake, monkeypatch):
    asked = fake(lambda **named: FakeRun(), api_key=KEY)
    monkeypatch.setattr(wandb_server.urllib.request, "urlopen", lambda url, timeout: raising())
    away = Connection("the server is away; it")
    trackers = [a_tracker(tmp_path, seed, connection=away) for seed in (1, 2)]
    for tracker in trackers:
        began(tracker)
    assert [named["mode"] for named in asked] == ["offline", "offline"]
    assert {tracker.warning for tracker in trackers} == {f"W&B: {away.warning}"}
    began(a_tracker(tmp_path, 3, connection=Connection(None)))
    assert "mode" not in asked[2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("first", "t0", 1), "first-t0-seed1"),
        (("a/b", "t:0 #1", 2), "a-b-t-0-1-seed2"),
        (("x" * 200, "t0", 1), "x" * 119 + "-t0-seed1"),
    ],
)
def test_an_id_is_a_function_of_sweep_trial_and_seed(names, expected):
    assert run_id(*names) == expected
    assert len(expected) <= ID_LENGTH


def test_phase_codes_name_every_phase_once():
    assert sorted(PHASES.values()) == [0, 1, 2, 3]
    assert PHASES["general"] == 0
    assert PHASES["memorize+review"] == PHASES["memorize"] | PHASES["review"]
