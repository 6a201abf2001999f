"""The driver's pen, with trials as Ray Tune hands them over."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Checkpoint
from ray.tune.result import SHOULD_CHECKPOINT

from factories import a_row, pickled, raised
from tskd_tune.errors import RunError
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError
from tskd_tune.sweeps.recorder import Recorder
from tskd_tune.sweeps.trials.trainable import STOPPED_ROWS


@dataclass
class Trial:
    """What a recorder reads of a trial of Ray Tune."""

    config: dict[str, Any]
    error: Exception | None = None
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None

    error_file = None

    @property
    def pickled_error_file(self) -> str | None:
        return None if self.error is None else pickled(self.error)


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def folder(tmp_path: Path, heard: list[Event]) -> Iterator[RunFolder]:
    found = RunFolder.create(tmp_path, "run", "sweep", {"seeds": [1, 2]}, expected=2)
    with Recorder.recording(found, heard.append):
        yield found


def config(tiny_document: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    return {
        "number": 3,
        "arm": "an arm",
        "point": {"k": 2},
        "experiment": tiny_document,
        "seeds": seeds,
        "teacher": None,
        "identity": "0123456789ab",
    }


def test_a_trial_that_begins_says_what_it_is_to_train(folder: RunFolder, tiny_document: dict[str, Any]) -> None:
    trial = Trial(config(tiny_document, [1, 2]))
    Recorder().on_trial_start(0, [], trial)
    begun = folder.begun()["00003"]
    assert (begun.arm, begun.seeds, begun.point, begun.epochs) == ("an arm", [1, 2], {"k": 2}, 6)
    Recorder().on_trial_start(0, [], trial)
    assert folder.begun()["00003"].started == begun.started
    (folder.trial_path("00003") / "trial.json").write_text("{")
    assert folder.begun() == {} and "trial.json: is damaged" in folder.damage()[0]
    Recorder().on_trial_start(0, [], trial)
    assert folder.damage() == []


def test_a_lost_worker_leaves_a_row_a_seed_with_the_epochs_of_its_history(
    folder: RunFolder, heard: list[Event], tiny_document: dict[str, Any]
) -> None:
    folder.append_history("00003", [{"seed": 1, "epoch": 0, "seconds": 2.0, "val_top1": 30.0}])
    text = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    died = RayActorError("an id", text)
    Recorder().on_trial_error(0, [], Trial(config(tiny_document, [1, 2]), died))
    first, second = folder.rows()
    assert (first.seed, first.epochs, second.seed, second.epochs) == (1, 1, 2, 0)
    for row in (first, second):
        assert row.broke and "the worker process died without a message" in (row.reason or "")
        assert "SYSTEM_ERROR" in (folder.path / (row.error or "")).read_text()
    assert [(event.what, event.arm, event.seed) for event in heard] == [
        ("failed", "an arm", 1),
        ("failed", "an arm", 2),
    ]


def test_an_error_that_ray_carries_is_told_in_the_words_of_the_code(
    folder: RunFolder, tiny_document: dict[str, Any]
) -> None:
    broke = raised(BrokenTrialError(2, "MemoryError: none left", "Traceback of the user's code"))
    Recorder().on_trial_error(0, [], Trial(config(tiny_document, [1, 2]), broke))
    reasons = {row.seed: row.reason for row in folder.rows()}
    assert reasons == {1: "seed 2 of its trial broke: MemoryError: none left", 2: "MemoryError: none left"}
    assert folder.error_path("00003", 2).read_text() == "Traceback of the user's code\n"
    Recorder().on_trial_error(0, [], Trial(config(tiny_document, [1, 2]), raised(ZeroDivisionError("by 0"))))
    assert {row.reason for row in folder.rows()} == {"ZeroDivisionError: by 0"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_sweep_and_is_not_tried_again(
    folder: RunFolder, tiny_document: dict[str, Any], number: int
) -> None:
    full = raised(OSError(number, os.strerror(number)))
    full = RayTaskError("save", f"a long traceback, OSError: {os.strerror(number)}", full).as_instanceof_cause()
    trial = Trial(config(tiny_document, [1]), full)
    with pytest.raises(RunError, match="No space left"):
        Recorder().on_trial_recover(0, [], trial)
    assert [row.broke and row.seed for row in folder.rows()] == [1]
    done = Trial(config(tiny_document, [2]), last_result={"rows": [], "errors": os.strerror(number)})
    with pytest.raises(RunError, match="No space left"):
        Recorder().on_trial_complete(0, [], done)


def test_what_may_pass_is_tried_again_without_a_row(folder: RunFolder, tiny_document: dict[str, Any]) -> None:
    passing = raised(BrokenTrialError(1, "MemoryError: none left", "Traceback of the user's code"))
    Recorder().on_trial_recover(0, [], Trial(config(tiny_document, [1]), passing))
    assert folder.rows() == []


def test_a_trial_that_the_scheduler_stops_is_asked_for_its_rows(
    folder: RunFolder, tmp_path: Path, tiny_document: dict[str, Any]
) -> None:
    trial = Trial(config(tiny_document, [1]))
    result = {"epoch": 2, "epochs": 6, "records": [{"seed": 1, "epoch": 2, "phase": "general", "lr": 0.1, "loss": 1.0}]}
    Recorder().on_trial_result(0, [], trial, result)
    assert SHOULD_CHECKPOINT not in result, "the trial goes on"
    trial.last_result = {**result, "done": True}
    Recorder().on_trial_result(0, [], trial, trial.last_result)
    assert trial.last_result[SHOULD_CHECKPOINT]
    kept = tmp_path / "rows"
    kept.mkdir()
    row = a_row("00003", status="stopped", epochs=3, planned=6)
    (kept / STOPPED_ROWS).write_text(json.dumps([row.plain()]))
    trial.checkpoint = Checkpoint(str(kept))
    Recorder().on_trial_complete(0, [], trial)
    assert folder.rows() == [row.model_copy(update={"reason": "the scheduler stopped it after epoch 2"})]
    assert not kept.exists()


def test_a_stopped_trial_whose_rows_are_lost_has_the_epochs_of_its_history(
    folder: RunFolder, tiny_document: dict[str, Any]
) -> None:
    folder.append_history("00003", [{"seed": 1, "epoch": 0, "seconds": 2.0, "val_top1": 30.0}])
    Recorder().on_trial_complete(0, [], Trial(config(tiny_document, [1]), last_result={"done": True, "epoch": 0}))
    (row,) = folder.rows()
    assert (row.status, row.broke, row.epochs, row.metrics) == ("stopped", False, 1, {"val_top1": 30.0})


def test_a_restored_trial_reports_every_epoch_and_the_history_takes_those_that_it_lacks(
    folder: RunFolder, heard: list[Event], tiny_document: dict[str, Any]
) -> None:
    records = [{"seed": 1, "epoch": epoch, "phase": "general", "lr": 0.1, "loss": 1.0} for epoch in range(3)]
    folder.append_history("00003", records[:1])
    Recorder().on_trial_result(0, [], Trial(config(tiny_document, [1])), {"epoch": 2, "records": records})
    assert [line.epoch for line in folder.history("00003")] == [0, 1, 2] == [0, *(event.epoch for event in heard)]
    assert len(folder.history_path("00003", 1).read_text().splitlines()) == 3
