"""Image files, decoded once to bytes that all trials of a machine share."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder


class ImageFile(NamedTuple):
    """A file as it was found: its class, size in bytes and time of change in nanoseconds; the path is absolute."""

    path: str
    label: int
    bytes: int
    changed: int


def decoded(files: Sequence[ImageFile], size: int) -> NDArray[np.uint8]:
    """Return the images ``[N, 3, size, size]``, from the data folder where they were decoded before.

    They are found again by the paths, sizes and times of change of the files, so that what has changed is decoded
    anew; trials that start together decode once. Only what is indexed is read into memory.

    Raises:
        InputError: a file is not an image.
        RunError: a file vanished, or the decoded images cannot be written or read.
    """
    facts = [size, [(file.path, file.bytes, file.changed) for file in files]]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    kept = data_folder() / "decoded" / f"{digest}.npy"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):
            if not kept.exists():
                _write(kept, _decode_all([file.path for file in files], size))
    except OSError as error:
        raise RunError(
            f"task: the decoded images cannot be written to {kept} ({error}); free some space, or set "
            f"{DATA_VARIABLE} to a folder that can be written"
        ) from error
    return _read(kept, (len(files), 3, size, size))


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"task: the decoded images {path} cannot be read ({error}); delete the file") from error
    if pixels.shape != shape:
        raise RunError(f"task: the decoded images {path} have shape {pixels.shape}, not {shape}; delete the file")
    return pixels


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write to a temporary file, then rename it: nobody ever reads half an array."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        try:
            np.save(file, pixels)
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _decode_all(paths: list[str], size: int) -> NDArray[np.uint8]:
    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        for place, image in enumerate(pool.map(partial(_decode, size=size), paths)):
            pixels[place] = image
    return pixels


def _decode(path: str, size: int) -> NDArray[np.uint8]:
    """Return the middle square of an image, scaled to ``[3, size, size]``; nothing is scaled that fits already."""
    try:
        with Image.open(path) as image:
            square = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise RunError(f"task: {path} vanished while the images were read; put it back and start again") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"task.root: {path} is not a readable image ({error}); mend or remove it") from error
    return np.asarray(square).transpose(2, 0, 1)
