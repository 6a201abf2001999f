"""A checkpoint is there whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune.errors import RunError
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver, waited_for


def test_a_state_round_trips(tmp_path: Path) -> None:
    state = {"epoch": 3, "weights": {"a": torch.arange(4.0)}, "history": [{"loss": 0.5, "phase": "review"}]}
    checkpoint.save(state, tmp_path / "state.pt")
    again = checkpoint.load(tmp_path / "state.pt")
    assert torch.equal(again.pop("weights")["a"], torch.arange(4.0))
    assert again == {"epoch": 3, "history": [{"loss": 0.5, "phase": "review"}]}


def test_a_state_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="could not be written"):
        checkpoint.save({}, tmp_path / "gone" / "state.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RunError, match="no readable checkpoint: it is .*; remove the file and resume the run"):
        checkpoint.load(tmp_path / "state.pt")


def test_a_missing_file_and_a_strange_object_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        checkpoint.load(tmp_path / "state.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(RunError, match="not a checkpoint but a list"):
        checkpoint.load(tmp_path / "list.pt")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_saver_is_due_when_its_seconds_have_gone_by(tmp_path: Path) -> None:
    clock = Clock()
    saver = Saver(tmp_path / "state.pt", 30, clock)
    assert not saver.is_due
    clock.now += 30
    assert saver.is_due
    saver.save({"epoch": 1})
    assert not saver.is_due
    saver.wait()
    clock.now += 29
    assert not saver.is_due
    assert checkpoint.load(tmp_path / "state.pt") == {"epoch": 1}
    assert Saver(tmp_path / "always.pt", 0, clock).is_due


def test_a_state_is_written_as_it_was_although_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, whole = threading.Event(), checkpoint.save

    def slow(state: Any, path: Path) -> None:
        assert held.wait(10)
        whole(state, path)

    monkeypatch.setattr(checkpoint, "save", slow)
    weight, clock = torch.zeros(3), Clock()
    saver = Saver(tmp_path / "state.pt", 1, clock)
    saver.save({"a": [{"w": weight}]})
    weight += 1
    clock.now += 5
    assert not saver.is_due, "a checkpoint is being written; the training does not wait for it"
    held.set()
    saver.wait()
    assert saver.is_due and checkpoint.load(tmp_path / "state.pt")["a"][0]["w"].tolist() == [0.0, 0.0, 0.0]


def test_the_checkpoint_before_stays_until_the_training_ends(tmp_path: Path) -> None:
    saver = Saver(tmp_path / "state.pt", 0)
    for epoch in range(3):
        saver.save({"epoch": epoch})
    saver.wait()
    kept = checkpoint.whole_files(tmp_path / "state.pt")
    assert [checkpoint.load(path)["epoch"] for path in kept] == [2, 1]
    saver.finish({"epoch": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert checkpoint.load(tmp_path / "state.pt") == {"epoch": 3}


@pytest.mark.parametrize("call", ["is_due", "wait", "save", "finish"])
def test_an_error_of_a_write_is_raised_by_the_next_call(tmp_path: Path, call: str) -> None:
    saver = Saver(tmp_path / "gone" / "state.pt", 30)
    saver.save({})
    assert saver._thread is not None
    saver._thread.join()
    with pytest.raises(RunError, match="could not be written"):
        saver.is_due if call == "is_due" else getattr(saver, call)(*([{}] if call in ("save", "finish") else []))


def test_a_training_that_ends_waits_for_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), waited_for(Saver(tmp_path / "state.pt", 0)) as saver:
        saver.save({"epoch": 1})
        raise KeyboardInterrupt
    assert saver._thread is None and checkpoint.load(tmp_path / "state.pt") == {"epoch": 1}
    sentence = "could not be written"
    lost = Saver(tmp_path / "gone" / "state.pt", 0)
    with pytest.warns(UserWarning, match=sentence), pytest.raises(KeyboardInterrupt), waited_for(lost):
        lost.save({})
        raise KeyboardInterrupt
    with pytest.raises(RunError, match=sentence), waited_for(lost):
        lost.save({})


@pytest.mark.parametrize("runs", [True, False])
def test_an_interruption_while_a_write_begins_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    """Ctrl-C within ``Thread.start``: the thread cannot be joined yet, or will never run."""
    saver, real = Saver(tmp_path / "checkpoint.pt", 0), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if runs:
            monkeypatch.setattr(thread, "is_alive", lambda: False)
            real(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "BEGIN_SECONDS", 5.0 if runs else 0.01)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt), waited_for(saver):
        saver.save({"history": [{"epoch": 0}]})
    assert saver.path.exists() is runs
