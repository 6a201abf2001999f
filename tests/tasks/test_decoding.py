from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks import decoding as module
from tskd_tune.tasks.decoding import ImageFile, decoded
from tskd_tune.tasks.image_files import found_file

SIZE = 6


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TSKD_TUNE_DATA", str(folder))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def files(folder: Path) -> list[ImageFile]:
    return [found_file(str(path), 0) for path in sorted(folder.iterdir())]


def kept(data: Path) -> list[Path]:
    return sorted((data / "decoded").glob("*.npy"))


def test_images_are_as_pil_reads_them(images: Path) -> None:
    expected = [np.asarray(Image.open(file.path)).transpose(2, 0, 1) for file in files(images)]
    assert np.array_equal(decoded(files(images), SIZE), expected)


@pytest.mark.parametrize("size", [8, 4])
def test_the_middle_square_is_scaled(images: Path, size: int) -> None:
    """The middle is columns 6 to 13; a filter may look two pixels further, but no more."""
    stripes = np.zeros((8, 20, 3), dtype=np.uint8)
    stripes[:, 4:16] = (10, 200, 30)
    Image.fromarray(stripes).save(images / "0.png")
    image = decoded(files(images)[:1], size)[0]
    assert image.shape == (3, size, size)
    assert (image == np.array([10, 200, 30]).reshape(3, 1, 1)).all()


def test_an_image_that_fits_is_not_touched_and_gray_becomes_color(images: Path) -> None:
    gray = np.random.default_rng(9).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)
    Image.fromarray(gray).save(images / "0.png")
    assert np.array_equal(decoded(files(images), SIZE)[0], np.broadcast_to(gray, (3, SIZE, SIZE)))


def test_images_are_decoded_once(images: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.array(decoded(files(images), SIZE))
    monkeypatch.setattr(module, "_decode", None)
    assert np.array_equal(decoded(files(images), SIZE), first)
    assert sorted(path.suffix for path in (data / "decoded").iterdir()) == [".lock", ".npy"]


def test_where_decoded_images_are_kept_stays_what_it_was(images: Path, data: Path) -> None:
    decoded(files(images), SIZE)
    paths = sorted(images.iterdir())
    facts = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    assert kept(data)[0].stem == hashlib.sha256(json.dumps([2, SIZE, facts]).encode()).hexdigest()[:32]


@pytest.mark.parametrize("change", ["size", "content", "time"])
def test_what_changes_is_decoded_anew(images: Path, data: Path, change: str) -> None:
    decoded(files(images), SIZE)
    if change == "content":
        Image.new("RGB", (SIZE, SIZE), (1, 2, 3)).save(images / "0.png", compress_level=0)
    if change == "time":
        os.utime(images / "0.png", (1, 1))
    decoded(files(images), 4 if change == "size" else SIZE)
    assert len(kept(data)) == 2


def test_trials_that_start_together_decode_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    decode = module._decode

    def counted(path: str, size: int) -> np.ndarray:
        calls.append(path)
        return decode(path, size)

    monkeypatch.setattr(module, "_decode", counted)
    threads = [threading.Thread(target=lambda: decoded(files(images), SIZE)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == [file.path for file in files(images)]


def test_a_corrupt_image_is_named(images: Path) -> None:
    (images / "2.png").write_bytes(b"not an image")
    with pytest.raises(
        InputError, match=r"1 of 4 images cannot be read; repair or remove:\n .*images/2.png: it is a text file that"
    ):
        decoded(files(images), SIZE)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (b"\xef\xbb\xbf<!DOCTYPE html>", "it is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "it is a web page"),
        (b'{"error": "not found"}', "it is a text file that begins with"),
        (b"\x1f\x8b" + bytes(30), "it is a gzip archive, not an image"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "it is a HEIC, AVIF or MP4 file"),
    ],
)
def test_what_is_no_image_is_named_as_what_it_is(images: Path, content: bytes, title: str) -> None:
    (images / "2.png").write_bytes(content)
    with pytest.raises(InputError, match=rf"images/2.png: {title}"):
        decoded(files(images), SIZE)


def test_half_an_image_is_named(images: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = images / "9.jpg"
    Image.fromarray(noise).save(whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(InputError, match=r"images/9.jpg: it is damaged, .*image file is truncated"):
        decoded(files(images), SIZE)


def test_images_that_no_memory_holds_are_refused(images: Path) -> None:
    with pytest.raises(InputError, match=r"task.size: 4 images of 10000000 x 10000000 pixels take [\d,]+ GiB"):
        decoded(files(images), 10_000_000)


def test_a_file_that_vanished_is_a_failure_of_the_run(images: Path) -> None:
    found = files(images)
    (images / "2.png").unlink()
    with pytest.raises(RunError, match=r"images/2.png vanished while the images were read"):
        decoded(found, SIZE)


def test_a_failed_write_leaves_nothing_behind(images: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, pixels: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(RunError, match=r"cannot be written.*No space left.*free some space"):
        decoded(files(images), SIZE)
    assert [path.suffix for path in (data / "decoded").iterdir()] == [".lock"]


@pytest.mark.parametrize("keep", [0, 6, 200])
def test_a_broken_cache_is_said(images: Path, data: Path, keep: int) -> None:
    decoded(files(images), SIZE)
    (whole,) = kept(data)
    whole.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"cannot be read.*delete the file"):
        decoded(files(images), SIZE)


def test_a_cache_that_is_no_array_is_said(images: Path, data: Path) -> None:
    decoded(files(images), SIZE)
    kept(data)[0].write_bytes(b"broken")
    with pytest.raises(RunError, match=r"cannot be read.*delete the file"):
        decoded(files(images), SIZE)


def test_a_cache_of_another_shape_is_said(images: Path, data: Path) -> None:
    decoded(files(images), SIZE)
    np.save(kept(data)[0], np.zeros((1, 3, 8, 8), dtype=np.uint8))
    with pytest.raises(RunError, match=r"have shape \(1, 3, 8, 8\), not \(4, 3, 6, 6\); delete the file"):
        decoded(files(images), SIZE)
