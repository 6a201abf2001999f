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
