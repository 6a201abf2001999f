"""A checkpoint is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tskd_tune.errors import RunError
from tskd_tune.training import checkpoint


def test_a_state_round_trips(tmp_path: Path) -> None:
    state = {"epoch": 3, "weights": {"a": torch.arange(4.0)}, "history": [{"loss": 0.5, "phase": "review"}]}
    checkpoint.save(state, tmp_path / "state.pt")
    again = checkpoint.load(tmp_path / "state.pt")
    assert torch.equal(again.pop("weights")["a"], torch.arange(4.0))
    assert again == {"epoch": 3, "history": [{"loss": 0.5, "phase": "review"}]}


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    checkpoint.save({"epoch": 1}, path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match="No space left on device.*free space and resume"):
        checkpoint.save({"epoch": 2}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
    assert checkpoint.load(path) == {"epoch": 1}


def test_a_write_into_a_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        checkpoint.save({}, tmp_path / "gone" / "state.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(RunError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "state.pt")


def test_a_missing_file_and_a_strange_object_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        checkpoint.load(tmp_path / "state.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(RunError, match="not a checkpoint but a list"):
        checkpoint.load(tmp_path / "list.pt")
