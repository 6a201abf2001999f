"""A state is one dict of tensors and plain values: written beside its place, then renamed; read without pickle."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from tskd_tune import saved
from tskd_tune.contracts import Saved
from tskd_tune.errors import RunError
from tskd_tune.files import write_whole


def save(state: Saved, path: Path) -> None:
    """Write a state atomically: a reader finds the old file or the new one, never half of one.

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
        raise RunError(f"{path}: no readable checkpoint, it {error.problem}; remove it and resume the run") from error
    if not isinstance(state, dict):
        raise RunError(f"{path}: not a checkpoint but a {type(state).__name__}; remove it and resume the run")
    return state
