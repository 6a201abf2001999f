"""Checkpoints: a state is one dict of tensors and plain values.

A checkpoint is written to a temporary file, which is then renamed. It is read without running code from the file."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from tskd_tune import saved
from tskd_tune.contracts import Saved
from tskd_tune.errors import RunError
from tskd_tune.files import write_whole


def save(state: Saved, path: Path) -> None:
    """Write a state atomically: a reader finds the old file or the new one, never a part of a file.

    Raises:
        RunError: the disk is full, or the folder is gone or not writable.
    """
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getbuffer())


def load(path: Path) -> Saved:
    """Read a state onto the CPU.

    Raises:
        RunError: the file is missing, damaged or not a checkpoint.
    """
    try:
        state = saved.read(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: the checkpoint is missing; start the run again under another name") from error
    except OSError as error:
        raise RunError(
            f"{path}: the checkpoint cannot be read ({error.strerror or error}); look at the disk"
        ) from error
    except saved.UnreadableError as error:
        raise RunError(
            f"{path}: is no readable checkpoint: it {error.problem}; remove the file and resume the run"
        ) from error
    if not isinstance(state, dict):
        raise RunError(f"{path}: not a checkpoint but a {type(state).__name__}; remove the file and resume the run")
    return state
