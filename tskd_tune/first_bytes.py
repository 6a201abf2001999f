"""Recognizes by the first bytes a file that is given as a checkpoint but is another kind of file."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEAD = 512
ZIP = b"PK\x03\x04"
SHOWN = 60
DOWNLOAD = "download the file itself, not the page that shows it"
UNPACK = "unpack it and give the checkpoint inside"
CONVERT = "convert it to a state dict of this network and save that with torch.save"


@dataclass(frozen=True)
class Kind:
    """A kind of file that is no checkpoint: its description, such as ``a web page``, and what to do."""

    title: str
    remedy: str


PREFIXES: dict[bytes, Kind] = {
    b"version https://git-lfs": Kind("a Git LFS pointer, which only names the file", "run `git lfs pull` there"),
    b"\x1f\x8b": Kind("a gzip archive", UNPACK),
    b"BZh": Kind("a bzip2 archive", UNPACK),
    b"\xfd7zXZ\x00": Kind("an xz archive", UNPACK),
    b"\x28\xb5\x2f\xfd": Kind("a zstd archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": Kind("a 7z archive", UNPACK),
    b"Rar!": Kind("a rar archive", UNPACK),
    b"\x89HDF\r\n\x1a\n": Kind("an HDF5 file, as Keras and TensorFlow write their weights", CONVERT),
    b"GGUF": Kind("a GGUF file of llama.cpp", CONVERT),
    b"\x93NUMPY": Kind("a single numpy array", CONVERT),
    b"\x89PNG": Kind("an image (PNG)", "give a checkpoint"),
    b"\xff\xd8\xff": Kind("an image (JPEG)", "give a checkpoint"),
    b"%PDF": Kind("a PDF document", "give a checkpoint"),
    b"\x7fELF": Kind("a program", "give a checkpoint"),
}
PAGES = (b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script", b"<!--")
WEB_PAGE = Kind("a web page", DOWNLOAD)
SAFETENSORS = Kind(
    "a safetensors file",
    "convert it once: torch.save(safetensors.torch.load_file(path), 'net.pth')",
)
ONNX = Kind("an ONNX or TensorFlow graph", CONVERT)
TFLITE = Kind("a TensorFlow Lite model", CONVERT)
TAR = Kind("a tar archive", UNPACK)
SCRIPT = Kind("a TorchScript program", "save its state dict: torch.save(torch.jit.load(path).state_dict(), 'net.pth')")
ARRAYS = Kind("an archive of numpy arrays (npz)", CONVERT)
KERAS = Kind("a Keras model", CONVERT)


def kind_of(path: Path) -> Kind | None:
    """Return the kind of a file that cannot be a checkpoint; None if the file may be a checkpoint.

    Raises:
        OSError: the file cannot be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for, a device has no end
        return Kind("a pipe or a device, not a file on a disk", "give a checkpoint's path")
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = os.fstat(file.fileno()).st_size
    if not head:
        return Kind("empty (0 bytes)", "copy or download it again")
    if head.startswith(ZIP):
        return _of_zip(path)
    for prefix, kind in PREFIXES.items():
        if head.startswith(prefix):
            return kind
    return next((kind for test, kind in TESTS if test(head, size)), None) or _text(head)


def _of_zip(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # The file is damaged (many classes of error); the reader of checkpoints reports this.
        return None
    inner = {name.partition("/")[2] for name in names}
    if {"constants.pkl", "version"} <= inner or any(name.startswith("code/") for name in inner):
        return SCRIPT
    if "data.pkl" in inner:
        return None
    if names and all(name.endswith(".npy") for name in names):
        return ARRAYS
    if any(name.endswith((".weights.h5", ".keras")) for name in names):
        return KERAS
    return Kind(f"a zip archive of other files ({', '.join(names[:3]) or 'none'})", UNPACK)


def _is_page(head: bytes, size: int) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Recognize safetensors by the header: 8 bytes with the length, followed by JSON."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 2 <= length <= size


def _is_graph(head: bytes, size: int) -> bool:
    """Recognize protobuf: the first field is a small version number, the second field is text."""
    return len(head) > 4 and head[0] == 0x08 and head[1] < 0x40 and head[2] in (0x12, 0x22, 0x3A)


TESTS: list[tuple[Callable[[bytes, int], bool], Kind]] = [
    (_is_page, WEB_PAGE),
    (_is_safetensors, SAFETENSORS),
    (_is_graph, ONNX),
    (lambda head, size: head[4:8] == b"TFL3", TFLITE),
    (lambda head, size: head[257:262] == b"ustar", TAR),
]


def _text(head: bytes) -> Kind | None:
    """Recognize text, and show the beginning."""
    words = head.decode("utf-8", errors="replace")
    odd = sum(not (letter.isprintable() or letter in "\n\r\t") or letter == "\ufffd" for letter in words[:-4] or words)
    if odd:
        return None
    first = " ".join(words.split())[:SHOWN]
    return Kind(f"a text file that begins with '{first}'", "give a checkpoint")
