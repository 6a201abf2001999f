"""Image files, decoded once to bytes that all trials of a machine share."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tskd_tune.errors import InputError, RunError
from tskd_tune.first_bytes import kind_of
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder
from tskd_tune.tasks.pictures import UNREADABLE, as_seen, opened
from tskd_tune.tasks.threads import mapped
from tskd_tune.tasks.words import counted, shown

View: TypeAlias = Callable[[Image.Image], Image.Image]
"""Makes a picture of a picture."""

DECODING_VERSION = 2
"""Counts up where the same file is decoded to other pixels: what was decoded by another version is not found."""

AT_ONCE = 1024
"""Images that may be in memory at once where each is decoded and not kept."""

MOST_NAMED = 10
POINTER = b"version https://git-lfs"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
WEB_PAGES = (b"<!doctype html", b"<html")


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
        InputError: files cannot be read; all are counted, and the first named.
        RunError: a file vanished, or the decoded images cannot be written or read.
    """
    kept = data_folder() / "decoded" / f"{digest_of(files, size)}.npy"
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


def digest_of(files: Sequence[ImageFile], size: int) -> str:
    """Return a digest of the paths, sizes and times of change of files, and of the size that they are scaled to."""
    facts = [DECODING_VERSION, size, [(file.path, file.bytes, file.changed) for file in files]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


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


def decode_each(files: Sequence[ImageFile], size: int) -> Iterator[NDArray[np.uint8]]:
    """Decode one file after another, and keep none of the images ``[3, size, size]``.

    Raises:
        InputError: files cannot be read; all are counted after the last file, and the first are named.
        RunError: a file vanished.
    """
    broken: dict[str, str] = {}
    paths = [file.path for file in files]
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start : start + AT_ONCE]
        for path, found in zip(some, mapped(partial(_tried, size=size), some), strict=True):
            if isinstance(found, str):
                broken[path] = found
            else:
                yield found
    if broken:
        raise InputError(unreadable(broken, len(paths)))


def decode_one(path: str, size: int) -> NDArray[np.uint8]:
    """Return the image ``[3, size, size]`` of one file; raises as `viewed`."""
    return viewed(path, partial(_fitted, size=size))


def viewed(path: str, view: View) -> NDArray[np.uint8]:
    """Return a view ``[3, H, W]`` of the picture of one file.

    Args:
        path: the file.
        view: makes another picture of the upright picture in 8-bit RGB, such as a crop.

    Raises:
        InputError: the file is not a readable image.
        RunError: the file vanished.
    """
    try:
        return _decode(path, view)
    except InputError as error:
        raise InputError(unreadable({path: str(error)}, 1)) from error


def _decode_all(paths: list[str], size: int) -> NDArray[np.uint8]:
    """Decode all files; if some files cannot be decoded, refuse them together at the end."""
    pixels = _room(len(paths), size)
    broken: dict[str, str] = {}
    for place, found in enumerate(mapped(partial(_tried, size=size), paths)):
        if isinstance(found, str):
            broken[paths[place]] = found
        else:
            pixels[place] = found
    if broken:
        raise InputError(unreadable(broken, len(paths)))
    return pixels


def _room(count: int, size: int) -> NDArray[np.uint8]:
    try:
        return np.empty((count, 3, size, size), dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        need = count * 3 * size**2 / 2**30
        raise InputError(
            f"task.size: {counted(count, 'image')} of {size} x {size} pixels take {need:,.0f} GiB, more memory than"
            " there is; lower task.size, or use fewer images"
        ) from error


def unreadable(broken: dict[str, str], total: int) -> str:
    """Say how many files cannot be read, and name the first ones with the reason."""
    named = [f"  {shown(path)}: {why}" for path, why in list(broken.items())[:MOST_NAMED]]
    more = [f"  and {len(broken) - MOST_NAMED} more"] if len(broken) > MOST_NAMED else []
    return "\n".join(
        [f"task.root: {len(broken)} of {counted(total, 'image')} cannot be read; repair or remove:", *named, *more]
    )


def _tried(path: str, size: int) -> NDArray[np.uint8] | str:
    """Decode a file, or say why it cannot be."""
    try:
        return _decode(path, partial(_fitted, size=size))
    except InputError as error:
        return str(error)


def _decode(path: str, view: View) -> NDArray[np.uint8]:
    """Return a view of a picture, ``[3, H, W]``.

    Raises:
        InputError: it is not a readable image, with the reason.
        RunError: it is not there.
    """
    return np.asarray(read_picture(path, lambda image: view(as_seen(image)))).transpose(2, 0, 1)


def read_picture(path: str, view: View) -> Image.Image:
    """Open an image file, and return a view of the picture as it is stored.

    Raises:
        InputError: it is not a readable image, with the reason.
        RunError: it is not there.
    """
    try:
        with opened(path) as image:
            return view(image)
    except FileNotFoundError as error:
        raise RunError(f"task: {path} vanished while the images were read; put it back and start again") from error
    except UNREADABLE as error:
        raise InputError(_reason(path, error)) from error


def _fitted(image: Image.Image, size: int) -> Image.Image:
    """Return the middle square of a picture, scaled to a size; a picture of that size is not scaled."""
    return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)


def _reason(path: str, error: Exception) -> str:
    """Say what kind of file an unreadable image is."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(512)
    except OSError as unopened:
        return f"it cannot be opened ({unopened.strerror})"
    what = _other_than_image(head)
    if what is None and isinstance(error, UnidentifiedImageError):
        return _unknown(path, head)
    return what or f"it is damaged, too large or of a kind that is not read ({error})"


def _unknown(path: str, head: bytes) -> str:
    """Say from the first bytes what a file is that Pillow does not recognize as an image."""
    if head[4:8] == b"ftyp":
        return "it is a HEIC, AVIF or MP4 file, which is not read; convert it to PNG or JPEG"
    kind = kind_of(Path(path))
    if kind is None or kind.title.startswith("an image"):
        return "it is not an image that Pillow knows"
    return f"it is {kind.title}, not an image"


def _other_than_image(head: bytes) -> str | None:
    """Say what a file is, where the first bytes show a known kind of file that is not an image."""
    known = {
        "it is empty": not head,
        "it holds zeros: it was not written or copied to its end": not head.strip(b"\0"),
        "it is a Git LFS pointer and not the image; fetch the image with `git lfs pull`": head.startswith(POINTER),
        "it is a PostScript file and not an image; convert it to PNG": head.startswith(b"%!PS"),
        "it is a web page and not an image; its download failed": head.removeprefix(BYTE_ORDER_MARK)
        .lstrip()
        .lower()
        .startswith(WEB_PAGES),
    }
    return next((what for what, holds in known.items() if holds), None)
