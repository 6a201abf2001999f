"""What an image file shows, as 8-bit RGB: deep gray levels are scaled, turned photographs are turned back."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

WHITE = (255, 255, 255, 255)
DEEP = ("I", "F")
"""Pillow's modes of 16- and 32-bit gray begin with these; 16-bit color is opened as its upper eight bits."""

UNREADABLE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError),
    *(struct.error, Image.DecompressionBombError),
)
"""What Pillow raises for files that are damaged, no images or too large."""

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by the value of the EXIF tag Orientation."""

HEAD = 4096
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"


class Oddity(NamedTuple):
    """How a file differs from a plain 8-bit picture.

    Attributes:
        deep: whether it is gray of 16 or 32 bits.
        changed: whether `as_seen` differs from a plain conversion to RGB, as it can for any of these and others.
        frames: how many pictures it holds.
    """

    deep: bool
    changed: bool
    frames: int


FIRST = ("BMP", "GIF", "JPEG", "PPM", "PNG")
"""The formats that Pillow tries first."""


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read: all of Pillow's but PostScript, for which it would start Ghostscript."""
    Image.init()
    return (*FIRST, *(name for name in Image.ID if name not in (*FIRST, "EPS")))


def opened(path: str) -> Image.Image:
    """Open an image file, whatever its name ends with; its pixels are not read yet.

    Raises:
        OSError: it is no image that is read here, or it is not there. Other errors of Pillow: see `UNREADABLE`.
    """
    return Image.open(path, formats=_formats())


def as_seen(image: Image.Image, *, upright: bool = True) -> Image.Image:
    """Return the picture as 8-bit RGB, upright.

    The EXIF orientation is applied, unless ``upright`` is false. Transparent pixels show white. Gray of 16 bits, and of
    32-bit integers up to 65535, becomes its upper eight bits. 32-bit floats from 0 to 1 become 0 to 255. Of several
    frames the first counts.

    Raises:
        ValueError: 32-bit values lie outside these ranges, so that nobody knows their scale.
    """
    image.load()  # which turns a TIFF by itself, and takes its tag away
    turn = TURNS.get(_orientation(image)) if upright else None
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, WHITE), clear)
    elif image.mode == "F":
        image = Image.fromarray(_from_floats(np.asarray(image)))
    elif image.mode.startswith(DEEP):
        image = Image.fromarray(_from_integers(np.asarray(image)))
    image = image if turn is None else image.transpose(turn)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy a picture in RGB


def oddity(path: str) -> Oddity | None:
    """Read the header of a file; None for a plain picture, and for a file that cannot be read."""
    try:
        with Path(path).open("rb") as file:
            if _is_plain(file.read(HEAD)):
                return None
        with opened(path) as image:
            deep = image.mode.startswith(DEEP)
            turned = image.format != "TIFF" and _orientation(image) in TURNS
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: previews of the first
            found = Oddity(deep, deep or turned or image.has_transparency_data, frames)
    except UNREADABLE:
        return None
    return found if found.changed or found.frames > 1 else None


def dimensions(path: str) -> tuple[int, int] | None:
    """Return width and height from the header of a file, in pixels; None if the file cannot be read."""
    try:
        with opened(path) as image:
            return image.size
    except UNREADABLE:
        return None


def brightest(path: str) -> int:
    """Return the largest value of an image of deep gray integers; 0 for floats and for a file that cannot be read."""
    try:
        with opened(path) as image:
            return 0 if image.mode == "F" else int(np.asarray(image).max())
    except UNREADABLE:
        return 0


def _is_plain(head: bytes) -> bool:
    """Return whether the first bytes show a plain picture, as those of most files do."""
    if head.startswith(PNG):
        depth, color = head[24:25], head[25:26]
        odd = color in (b"\x04", b"\x06") or (depth == b"\x10" and color == b"\0")
        return not odd and not any(word in head for word in (b"tRNS", b"eXIf", b"acTL", b"tiff:Or"))
    return head.startswith(JPEG) and b"Exif\0" not in head and b"ns.adobe.com/xap" not in head


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none or the tags cannot be read."""
    try:
        found: Any = image.getexif().get(ORIENTATION, 1)
    except UNREADABLE:
        return 1
    return found if isinstance(found, int) else 1


def _from_integers(values: Any) -> Any:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ValueError(f"32-bit values from {low} to {high}: only 0 to 65535 is a known scale; convert it to 16 bits")
    return (values >> 8).astype(np.uint8)


def _from_floats(values: Any) -> Any:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"32-bit floats from {low:g} to {high:g}: only 0 to 1 is a known scale; convert it to 8 bits")
    return np.rint(values * 255).astype(np.uint8)
