"""Seeds and arms added to sweeps that were run, and sweeps that look: through real Ray Tune, on tiny experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps import run
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence import interim
from tskd_tune.sweeps.evidence.extension import Addition

pytestmark = pytest.mark.slow


def quick(tiny: dict[str, Any], **over: Any) -> dict[str, Any]:
    task = {**tiny["task"], "train": 8, "validation": 4, "test": 4}
    experiment = {**tiny, "task": task, "training": {**tiny["training"], "epochs": 3}}
    experiment["choice"] = {"plain": {"review": None}, "tskd": {}}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}, **over}


def silent(event: Event) -> None:
    pass


def trained(folder: RunFolder) -> list[tuple[str, str, int]]:
    return [(row.run, row.arm, row.seed) for row in folder.rows()]


@pytest.fixture
def finished(a_ray: None, tiny_document: dict[str, Any], tmp_path: Path) -> RunFolder:
    return run.start(Sweep.read(quick(tiny_document)), "run", tmp_path, silent, track=False)


def test_seeds_and_controls_are_added_and_what_was_there_stays(finished: RunFolder) -> None:
    before = finished.rows_path.read_text()
    run.extend(finished, Addition([3, 5]), silent, track=False)
    folder = RunFolder.open(finished.path)
    assert folder.rows_path.read_text().startswith(before)
    assert sorted(trained(folder))[4:] == [
        ("00004", "plain", 3), ("00005", "tskd", 3), ("00006", "plain", 5), ("00007", "tskd", 5),
    ]  # fmt: skip
    assert folder.state.expected == 8 and folder.document()["seeds"] == [1, 2, 3, 5]

    run.extend(folder, Addition(controls=["detach"]), silent, track=False)
    folder = RunFolder.open(finished.path)
    added = sorted(trained(folder))[8:]
    assert [(arm, seed) for _, arm, seed in added] == [("control_detach", seed) for seed in (1, 2, 3, 5)]
    assert folder.state.expected == 12 and list(folder.document()["arms"]) == ["control_detach"]
    row = next(row for row in folder.rows() if row.arm == "control_detach")
    assert row.experiment["review"]["target"]["gradient"] == "detach" and row.status == "done"
    after = folder.rows_path.read_text()
    run.resume(folder, silent, track=False)
    assert folder.rows_path.read_text() == after
    with pytest.raises(InputError, match="--seeds: 3 is in the sweep already"):
        run.extend(folder, Addition([3, 6]), silent)


def test_an_extension_that_was_cut_off_before_its_training_is_resumed(finished: RunFolder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_run", lambda *given, **named: None)
        run.extend(finished, Addition([3]), silent)
    folder = RunFolder.open(finished.path)
    assert folder.state.expected == 6 and len(folder.rows()) == 4
    run.resume(folder, silent, track=False)
    found = sorted(trained(folder))
    assert found[4:] == [("00004", "plain", 3), ("00005", "tskd", 3)] and len(found) == 6


def test_a_sweep_is_analyzed_as_declared_and_stops(
    a_ray: None, tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    heard: list[Event] = []

    def judge(folder: RunFolder, at: int) -> interim.Interim:
        judged.append(at)
        assert len(folder.rows()) == 2 * at, "an analysis waits for all runs of its seeds"
        return interim.Interim(at=at, stop=at == 6, sentence=f"at {at}")

    monkeypatch.setattr(interim, "_judged", judge)
    sweep = Sweep.read(quick(tiny_document, seeds=list(range(1, 9)), compare={"interim": [5, 6, 8]}))
    folder = run.start(sweep, "analyses", tmp_path, heard.append, track=False)
    assert judged == [5, 6] and len(folder.rows()) == 12 and {row.seed for row in folder.rows()} == set(range(1, 7))
    assert [event.reason for event in heard if event.what == "interim"] == ["at 5", "at 6"]
    assert RunFolder.open(folder.path).state.expected == 12
    run.resume(RunFolder.open(folder.path), silent, track=False)
    assert judged == [5, 6] and len(folder.rows()) == 12 and RunFolder.open(folder.path).state.expected == 12
    assert [analysis.stop for analysis in interim.analyses(folder).values()] == [False, True]
    with pytest.raises(InputError, match="the sweep declared interim analyses at 5, 6, 8 seeds before it ran"):
        run.extend(folder, Addition([9]), silent)
