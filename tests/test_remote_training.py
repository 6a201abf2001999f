"""One experiment trained without Ray, whose run is on an object storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tskd_tune
from tskd_tune import local
from tskd_tune.experiment import Experiment
from tskd_tune.networks.weights import read_state
from tskd_tune.paths import Address
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions import workplace


def test_a_training_that_was_cut_off_goes_on_elsewhere(
    tiny_document: dict[str, Any], memory: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {**tiny_document["training"], "epochs": 4, "checkpoint": {"seconds": 0}}
    given = {**tiny_document, "review": None, "training": training}

    def interrupt(event: Event) -> None:
        if event.what == "epoch" and event.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "first"))
    whole = tskd_tune.train(given, "run", storage=tmp_path, track=False)
    with pytest.raises(KeyboardInterrupt):
        local.start(Experiment.read(given), "run", memory, interrupt, track=False)

    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "second"))
    workplace._of.cache_clear()
    cut_off = RunFolder.open(memory / "run")
    assert [line.epoch for line in cut_off.history("0")] == [0, 1] and not cut_off.rows()
    epochs: list[int] = []
    heard = lambda event: epochs.append(event.epoch) if event.what == "epoch" else None  # noqa: E731
    folder = local.resume(cut_off, heard, track=False)
    assert epochs == [2, 3] and folder.rows()[0].metrics == whole.rows()[0].metrics
    found = read_state(folder.bring(folder.student_path("0", 1))).state
    kept = read_state(whole.student_path("0", 1)).state
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    assert tskd_tune.report(str(memory / "run")).runs.finished == 1
    assert tskd_tune.report("run", storage=str(memory)).runs.finished == 1
