"""What torch.save wrote is read without code and with its checksums; everything else is named by its first bytes."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import operator
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tskd_tune import saved
from tskd_tune.first_bytes import kind_of

STATE = {"conv.weight": torch.arange(600.0).reshape(20, 30), "fc.bias": torch.ones(7)}


def written(payload: Any, *, zipped: bool = True) -> bytes:
    content = io.BytesIO()
    torch.save(payload, content, _use_new_zipfile_serialization=zipped)
    return content.getvalue()


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, inner in files.items():
            archive.writestr(name, inner)
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.pth"), io.BytesIO())
    return content.getvalue()


def script() -> bytes:
    content = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), content)
    return content.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\x00" * 4


def arrays() -> bytes:
    content = io.BytesIO()
    np.savez(content, a=np.ones(3))
    return content.getvalue()


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty (0 bytes); copy or download it again"),
    "page": (lambda: b"\n<!DOCTYPE html>\n<html><body>Sign in</body>", "is a web page; download the file itself"),
    "page with a mark": (lambda: b"\xef\xbb\xbf<html>", "is a web page"),
    "xml": (lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "is a web page"),
    "pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "is a Git LFS pointer, which only names the file; run `git lfs pull` there",
    ),
    "text": (lambda: b"hello, I am a text file\n" * 90, "is a text file that begins with 'hello, I am a text file"),
    "text of another alphabet": (lambda: "Привет, мир\n".encode() * 90, "is a text file that begins with 'Привет"),
    "json": (lambda: b'{"message": "Not Found"}', "is a text file that begins with '{"),
    "gzip": (lambda: gzip.compress(written(STATE)), "is a gzip archive; unpack it"),
    "bzip2": (lambda: bz2.compress(written(STATE)), "is a bzip2 archive"),
    "xz": (lambda: lzma.compress(written(STATE)), "is an xz archive"),
    "tar": (tarred, "is a tar archive; unpack it and give the checkpoint inside"),
    "zip": (lambda: zipped(**{"run/net.pth": b"x"}), "is a zip archive of other files (run/net.pth); unpack it"),
    "npz": (arrays, "is an archive of numpy arrays (npz)"),
    "keras": (lambda: zipped(**{"config.json": b"{}", "model.weights.h5": b"x"}), "is a Keras model"),
    "script": (script, "is a TorchScript program; save its state dict"),
    "npy": (lambda: b"\x93NUMPY\x01\x00", "is a single numpy array"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + b"\x00" * 50, "is an HDF5 file, as Keras and TensorFlow write"),
    "safetensors": (safetensors, "is a safetensors file; convert it once: torch.save(safetensors.torch.load_file("),
    "onnx": (lambda: b"\x08\x08\x12\x07pytorch\x1a\x052.6.0:\x9a\x01", "is an ONNX or TensorFlow graph"),
    "tensorflow": (lambda: b"\x08\x01\x12\xe1\x8d\x0c\n\xd8\x02", "is an ONNX or TensorFlow graph"),
    "tflite": (lambda: b"\x1c\x00\x00\x00TFL3\x14\x00", "is a TensorFlow Lite model"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n", "is an image (PNG)"),
    "plain pickle": (lambda: pickle.dumps({"a": 1}), "is damaged or not a checkpoint ("),
    "noise": (lambda: random.Random(0).randbytes(300), "is damaged or not a checkpoint ("),
    "old and cut off": (lambda: written(STATE, zipped=False)[:900], "is damaged or not a checkpoint ("),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_checkpoint_is_named_as_what_it_is(tmp_path: Path, kind: str) -> None:
    make, sentence = KINDS[kind]
    path = tmp_path / "net.pth"
    path.write_bytes(make())
    with pytest.raises(saved.UnreadableError) as caught:
        saved.read(path)
    assert str(caught.value).startswith(sentence)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("zip_format", [True, False])
def test_what_torch_writes_is_read(tmp_path: Path, zip_format: bool) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(written(STATE, zipped=zip_format))
    assert kind_of(path) is None
    found = saved.read(path)
    assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_no_flipped_bit_and_no_lost_end_is_read_as_if_it_were_whole(tmp_path: Path) -> None:
    whole, path, draw = written(STATE), tmp_path / "net.pth", random.Random(1)
    places = [draw.randrange(len(whole)) for _ in range(300)]
    noticed = 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            found = saved.read(path)
        except saved.UnreadableError:
            noticed += 1
        else:  # padding, a date
            assert found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)
    assert noticed > len(places) / 3
    for end in range(1, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(saved.UnreadableError):
            saved.read(path)


def test_every_byte_of_a_tensor_is_watched(tmp_path: Path) -> None:
    whole, path = written(STATE), tmp_path / "net.pth"
    begin = whole.index(STATE["conv.weight"].numpy().tobytes())
    for place in range(begin, begin + 2400, 53):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(saved.UnreadableError, match="is damaged: the checksum of its part archive/data/0"):
            saved.read(path)


def test_a_file_that_was_written_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        (tmp_path / "net.pth").write_bytes(written(STATE))
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(saved.read(tmp_path / "net.pth")["fc.bias"], STATE["fc.bias"])


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


TRAPS: dict[str, Any] = {
    "a command": Call(os.system, "touch sprung"),
    "an attribute": Call(getattr, "a", "upper"),
    "an evaluation": Call(eval, "1"),
    "a part of a function": functools.partial(print),
    "an operator": operator.attrgetter("a"),
    "a module": nn.Linear(2, 2),
    "a class": nn.Linear,
    "an array of objects": np.array([None, 1], dtype=object),
    "a structured array": np.zeros(2, dtype=[("a", "f4"), ("b", "O")]),
}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("zip_format", [True, False])
def test_objects_that_could_run_code_are_refused(tmp_path: Path, trap: str, zip_format: bool) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(written({**STATE, "trap": TRAPS[trap]}, zipped=zip_format))
    with pytest.raises(saved.UnreadableError, match=r"^holds a Python object \(.+\) that could run code") as caught:
        saved.read(path)
    assert "weights_only" not in str(caught.value)
    assert not Path("sprung").exists()


def test_a_missing_file_and_a_folder_are_the_systems_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        saved.read(tmp_path / "gone.pth")
    with pytest.raises(IsADirectoryError):
        saved.read(tmp_path)


@pytest.mark.parametrize("zip_format", [True, False])
def test_a_newer_protocol_of_pickle_is_said(tmp_path: Path, zip_format: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(3)}, path, pickle_protocol=4, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(saved.UnreadableError, match="by default.*without pickle_protocol"):
        saved.read(path)


def test_the_ending_of_a_name_does_not_decide_how_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    torch.save({"a": torch.ones(3)}, path)
    assert torch.equal(saved.read(path)["a"], torch.ones(3))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(saved.UnreadableError, match="a pipe or a device"):
        saved.read(tmp_path / "pipe")
