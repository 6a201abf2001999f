"""Whole sweeps whose run is on an object storage, with a stand-in for Ray Tune: trained, cut off, gone on with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune.errors import InputError, RunError
from tskd_tune.networks.weights import read_state
from tskd_tune.paths import Address, StoragePlace
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions import workplace
from tskd_tune.records.sessions.workplace import Workplace
from tskd_tune.records.storing import uploader
from tskd_tune.storage import lease, objects, patience
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.run import resume, start
from tskd_tune.training.checkpoint import epochs_in

sys.path.insert(0, str(Path(__file__).parent))
from faults import AWAY, DENIED, THROTTLED, Faulty
from stand_in import Cluster, installed

Elsewhere = Callable[[str], None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return installed(monkeypatch)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Elsewhere:
    """Go on as on another machine: with an empty cache, and as the only process there."""

    def go(name: str) -> None:
        monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / name))
        workplace._of.cache_clear()

    go("first")
    return go


@pytest.fixture
def grid(tiny_document: dict[str, Any]) -> dict[str, Any]:
    experiment = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    experiment["training"] = {**tiny_document["training"], "epochs": 3, "checkpoint": {"seconds": 0}}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}}


def silent(event: Event) -> None:
    pass


def begin(document: dict[str, Any], storage: StoragePlace, **over: Any) -> RunFolder:
    return start(Sweep.read({**document, **over}), "run", storage, silent, track=False)


def results(folder: RunFolder) -> dict[tuple[str, int], dict[str, float | None]]:
    return {(row.arm, row.seed): dict(row.metrics) for row in folder.rows()}


def student(folder: RunFolder, row: Row) -> dict[str, torch.Tensor]:
    return read_state(folder.bring(folder.student_path(row.run, row.seed))).state


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_run_that_was_cut_off_goes_on_elsewhere_with_the_same_results(
    kind: str,
    cluster: Cluster,
    grid: dict[str, Any],
    elsewhere: Elsewhere,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    storage: Address = request.getfixturevalue(kind)
    whole = begin(grid, tmp_path / "runs")
    cluster.cut_off_after = cluster.results + 7
    with pytest.raises(KeyboardInterrupt):
        begin(grid, storage)
    cluster.cut_off_after = None
    trained = cluster.results

    elsewhere("second")
    cut_off = RunFolder.open(storage / "run")
    assert 0 < len(cut_off.rows()) < 4 and cut_off.is_trained() is False
    resume(cut_off, silent, track=False)
    assert cluster.results - trained <= 4 * 3 - 7 + 2, "finished epochs are not trained again; two are reported again"

    elsewhere("third")
    seen = RunFolder.open("run", storage)
    assert seen.place == storage / "run" and seen.name == "run" and seen.state.expected == 4
    assert results(seen) == results(whole)
    for row, twin in zip(sorted(seen.rows(), key=str), sorted(whole.rows(), key=str), strict=True):
        assert all(torch.equal(value, student(whole, twin)[key]) for key, value in student(seen, row).items())
        lines = [(line.seed, line.epoch, line.number("loss")) for line in seen.history(row.run)]
        assert lines == [(line.seed, line.epoch, line.number("loss")) for line in whole.history(twin.run)]
    stored = seen.remote.objects.names("") if seen.remote else {}
    assert not [name for name in stored if "checkpoint" in name], "no resume needs them"
    assert {"report.html", "report.md", "rows.jsonl", "sweep.yaml", "state.json"} <= stored.keys()
    with pytest.raises(InputError, match=r"run exists; resume the run with `tskd-tune resume \w+://"):
        begin(grid, storage)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """One storage in memory for all that is opened, which fails when the test says so."""
    system = Faulty()
    monkeypatch.setattr(objects, "_opened", lambda address: (system, address.url.partition("://")[2]))
    return system


def test_storage_that_fails_for_a_while_loses_nothing(
    cluster: Cluster,
    grid: dict[str, Any],
    elsewhere: Elsewhere,
    faulty: Faulty,
    memory: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploader, "GATHER", 0.01)
    monkeypatch.setattr(patience, "SHORTEST", 0.02)
    monkeypatch.setattr(patience, "LONGEST", 0.05)
    told: list[str] = []
    errors = [THROTTLED, AWAY, DENIED]
    logs, others = iter(range(5)), iter(range(4))

    def fails(call: str, path: str) -> Exception | None:
        number = next(logs if "/log/" in path else others, None) if cluster.results > 2 else None
        return None if number is None else errors[number % 3]

    faulty.fails = fails
    heard = lambda event: told.append(event.reason or "") if event.what == "note" else None  # noqa: E731
    folder = start(Sweep.read(grid), "run", memory, heard, track=False)
    assert next(logs, None) is next(others, None) is None, "the storage has failed as often as it was to"
    assert any("the training goes on" in text for text in told)
    elsewhere("second")
    assert len(RunFolder.open(folder.place).rows()) == 4


def test_storage_that_stays_away_ends_the_sweep_and_a_resume_here_brings_the_rest(
    cluster: Cluster,
    grid: dict[str, Any],
    elsewhere: Elsewhere,
    faulty: Faulty,
    memory: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploader, "GATHER", 0.01)
    monkeypatch.setattr(patience, "SHORTEST", 0.02)
    monkeypatch.setattr(patience, "LONGEST", 0.05)
    monkeypatch.setattr(patience, "SECONDS", 0.5)
    faulty.fails = lambda call, path: AWAY if cluster.results > 4 and "/log/" in path else None
    with pytest.raises(RunError) as error:
        begin(grid, memory)
    assert "does not answer" in str(error.value) and "what could not be uploaded is kept in" in str(error.value)
    assert f"run `tskd-tune resume {memory}/run` on this machine" in str(error.value)
    faulty.fails = lambda call, path: None
    trained = cluster.results
    resume(RunFolder.open(memory / "run"), silent, track=False)
    elsewhere("second")
    seen = RunFolder.open(memory / "run")
    assert len(seen.rows()) == 4 and cluster.results - trained < 4 * 3
    assert {len(seen.history(row.run)) for row in seen.rows()} == {3}


def test_a_driver_that_was_cut_off_stops_and_replaces_nothing(
    cluster: Cluster,
    grid: dict[str, Any],
    elsewhere: Elsewhere,
    faulty: Faulty,
    memory: Address,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploader, "RENEWAL", 0.05)
    folder = RunFolder.create(memory, "run", "sweep", {}, expected=1)
    with pytest.raises(lease.LostLeaseError, match="has taken this run over"), folder.alone():
        folder.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 3.0}])
        elsewhere("second")
        monkeypatch.setattr(lease.Held, "is_live", False)  # the first driver is silent for a minute
        other = RunFolder.open(memory / "run")
        with other.alone():
            other.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 2.0}])
            until = time.monotonic() + 120
            while time.monotonic() < until:
                folder.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 1.0}])
                time.sleep(0.05)
    elsewhere("third")
    assert [line.number("loss") for line in RunFolder.open(memory / "run").history("00000")] == [2.0]


def test_a_worker_that_comes_back_replaces_no_newer_checkpoint(tmp_path: Path, memory: Address) -> None:
    def state(epochs: int) -> dict[str, Any]:
        return {"trainer": {"history": [{}] * epochs, "weights": torch.zeros(3)}}

    for place in (Workplace(tmp_path), Workplace(tmp_path / "remote", objects.Objects(memory))):
        savers = [
            Workplace(tmp_path if place.folder == tmp_path else tmp_path / name, place._objects)
            .training("x", 1)
            .saver(0)
            for name in ("old", "new")
        ]
        for saver in savers:
            saver.path.parent.mkdir(parents=True, exist_ok=True)
        for saver, epochs in ((savers[0], 1), (savers[1], 2), (savers[1], 4), (savers[0], 3), (savers[1], 5)):
            saver.save(state(epochs))
            saver.wait()
            found = next(iter(Workplace(place.folder, place._objects).training("x", 1).candidates())).load()
            assert epochs_in(found) == max(epochs, 4 if epochs == 3 else 0)
