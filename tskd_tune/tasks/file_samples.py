"""Image files as samples that are decoded one at a time, and what is measured of them in one pass."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from tskd_tune.errors import RunError
from tskd_tune.files import write_whole
from tskd_tune.tasks.decoding import ImageFile, View, decode_each, decode_one, digest_of, viewed
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.images import Normalization, levels


@final
class FileSamples:
    """Files of one part; an image is decoded when it is asked for, and is not kept.

    The paths lie in one array: worker processes share the array's memory, where each would copy Python's own text.

    Attributes:
        targets: the class of each file ``[N]``.
    """

    def __init__(self, files: Sequence[ImageFile], size: int) -> None:
        """Take files, and the size that they are scaled to."""
        self.targets = torch.tensor([file.label for file in files], dtype=torch.int64)
        self._paths = np.array([os.fsencode(file.path) for file in files], dtype=np.bytes_)
        self._size = size

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.targets)

    def __getitem__(self, index: int) -> Tensor:
        """Decode one file to bytes ``[3, size, size]``; raises as `decode_one`."""
        return torch.from_numpy(np.ascontiguousarray(decode_one(self._path(index), self._size)))

    def viewed(self, index: int, view: View) -> Tensor:
        """Decode one file, and return the bytes ``[3, H, W]`` of a view of its picture; raises as `decoding.viewed`."""
        return torch.from_numpy(np.ascontiguousarray(viewed(self._path(index), view)))

    def _path(self, index: int) -> str:
        return os.fsdecode(self._paths[index])


def measured_normalization(files: Sequence[ImageFile], size: int) -> Normalization:
    """Return the mean and the standard deviation of the pixels of files, which are decoded once and not kept.

    What was measured is kept in the data folder, and found again by paths, sizes and times of change of the files.

    Raises:
        InputError: files cannot be read, or a channel has the same value in every pixel.
        RunError: a file vanished, or the result cannot be written.
    """
    kept = data_folder() / "decoded" / f"{digest_of(files, size)}.normalization.json"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            found = _read(kept)
            if found is None:
                found = _measure(files, size)
                write_whole(kept, json.dumps({"mean": found.mean, "std": found.std}))
    except OSError as error:
        raise RunError(
            f"task: the measured normalization cannot be written to {kept} ({error}); free some space, or set "
            f"{DATA_VARIABLE} to a folder that can be written"
        ) from error
    return found


def _read(path: Path) -> Normalization | None:
    """Read what was measured before; None where there is nothing, or nothing whole."""
    try:
        found = json.loads(path.read_text())
        return Normalization(tuple(map(float, found["mean"])), tuple(map(float, found["std"])))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _measure(files: Sequence[ImageFile], size: int) -> Normalization:
    counts = np.zeros((3, 256), dtype=np.int64)
    for pixels in decode_each(files, size):
        counts += levels(torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(0))
    return Normalization.of_counts(counts)
