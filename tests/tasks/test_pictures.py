"""Every kind of image file keeps its picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tskd_tune.errors import InputError
from tskd_tune.tasks import build
from tskd_tune.tasks.decoding import decoded
from tskd_tune.tasks.image_files import found_file
from tskd_tune.tasks.pictures import oddity

SIZE = 16
RAMP = np.linspace(0, 255, SIZE * SIZE).reshape(SIZE, SIZE).round()
EIGHT = Image.fromarray(RAMP.astype(np.uint8))
SIXTEEN = (RAMP * 257).astype(np.uint16)
TURNED = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))


def clear(mode: str) -> Image.Image:
    """Return the ramp with its left half transparent above black."""
    image = EIGHT.convert(mode)
    mask = Image.fromarray(np.repeat([[0] * 8 + [255] * 8], SIZE, 0).astype(np.uint8))
    image.putalpha(mask)
    black = Image.composite(image, Image.new(image.mode, image.size, 0), mask)
    black.putalpha(mask)
    return black


def palette() -> Image.Image:
    image = EIGHT.quantize(256)
    image.info["transparency"] = image.getpixel((0, 0))
    return image


def big_endian(path: Path) -> None:
    Image.frombytes("I;16B", (SIZE, SIZE), SIXTEEN.astype(">u2").tobytes()).save(path)


KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "8-bit gray": ("png", EIGHT.save),
    "1-bit": ("png", EIGHT.convert("1", dither=Image.Dither.NONE).save),
    "palette": ("png", EIGHT.quantize(256).save),
    "palette, transparent": ("png", lambda path: palette().save(path)),
    "gray with alpha": ("png", lambda path: clear("L").save(path)),
    "color with alpha": ("png", lambda path: clear("RGB").save(path)),
    "color with alpha, webp": ("webp", lambda path: clear("RGB").save(path, lossless=True)),
    "color with alpha, tiff": ("tif", lambda path: clear("RGB").save(path)),
    "CMYK": ("tif", EIGHT.convert("RGB").convert("CMYK").save),
    "16-bit png": ("png", Image.fromarray(SIXTEEN).save),
    "16-bit tiff": ("tif", Image.fromarray(SIXTEEN).save),
    "16-bit tiff, big-endian": ("tif", big_endian),
    "16-bit pgm": ("pgm", Image.fromarray(SIXTEEN).save),
    "32-bit integers": ("tif", Image.fromarray(SIXTEEN.astype(np.int32)).save),
    "32-bit floats": ("tif", Image.fromarray((RAMP / 255).astype(np.float32)).save),
    "several pages": ("tif", lambda path: EIGHT.save(path, save_all=True, append_images=[EIGHT.rotate(90)])),
    "animated": ("png", lambda path: EIGHT.save(path, save_all=True, append_images=[EIGHT.rotate(90)])),
}
EXPECTED = {
    "1-bit": np.where(RAMP < 128, 0, 255),
    "palette, transparent": np.where(RAMP == 0, 255, RAMP),
    **{kind: np.where(np.arange(SIZE) < 8, 255, RAMP) for kind in KINDS if "alpha" in kind},
}
PLAIN = {"8-bit gray", "1-bit", "palette", "CMYK", "several pages", "animated"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_picture(kind: str, tmp_path: Path) -> None:
    ending, write = KINDS[kind]
    path = tmp_path / f"a.{ending}"
    write(path)
    image = np.asarray(decoded([found_file(str(path), 0)], SIZE)[0], dtype=int)
    assert np.abs(image - EXPECTED.get(kind, RAMP)).max() <= 1
    odd = oddity(str(path))
    assert (odd is not None and odd.changed) == (kind not in PLAIN)
    assert (1 if odd is None else odd.frames) == (2 if kind in ("several pages", "animated") else 1)


def test_color_of_16_bits_keeps_its_picture(tmp_path: Path) -> None:
    """Pillow opens these and does not write them: a binary PPM, and a PNG by hand."""
    color = np.stack([SIXTEEN, SIXTEEN.T, SIXTEEN[::-1]], -1).astype(">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6 16 16 65535\n" + color.tobytes())
    image = decoded([found_file(str(tmp_path / "a.ppm"), 0)], SIZE)[0]
    assert np.abs(image.transpose(1, 2, 0) - (color >> 8).astype(int)).max() <= 1


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", TURNED)
def test_turned_photographs_are_upright(ending: str, orientation: int, tmp_path: Path) -> None:
    picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    picture[: SIZE // 2, : SIZE // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(picture).transpose(TURNED[orientation])
    stored.save(tmp_path / f"a.{ending}", exif=exif)
    image = decoded([found_file(str(tmp_path / f"a.{ending}"), 0)], SIZE)[0].astype(int)
    assert np.abs(image - picture.transpose(2, 0, 1)).mean() < 10


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_tags_hurt_no_picture(tmp_path: Path) -> None:
    EIGHT.convert("RGB").save(tmp_path / "a.jpg", quality=100, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken")
    image = decoded([found_file(str(tmp_path / "a.jpg"), 0)], SIZE)[0].astype(int)
    assert np.abs(image - RAMP).max() < 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 4), 70000, np.int32), "32-bit values from 70000 to 70000: only 0 to 65535 is a known scale"),
        (np.full((4, 4), -1, np.int32), "32-bit values from -1"),
        (np.full((4, 4), 255, np.float32), "32-bit floats from 255 to 255: only 0 to 1 is a known scale"),
        (np.full((4, 4), np.nan, np.float32), "32-bit floats from nan"),
    ],
)
def test_numbers_without_a_known_scale_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=rf"1 of 1 image cannot be read; repair or remove:\n.*a.tif: .*{message}"):
        decoded([found_file(str(tmp_path / "a.tif"), 0)], SIZE)


WHOLE = b"".join([b"\x89PNG\r\n\x1a\n", b"\0" * 100])
BROKEN = {
    "empty": (b"", "it is empty"),
    "html": (b"\n<!DOCTYPE html><p>404</p>", "a web page and not an image"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zeros": (b"\0" * 4000, "holds zeros"),
    "text": (b"hello", "a text file that begins with 'hello', not an image"),
    "bomb": (b"P6 60000 60000 255\n" + b"x" * 100, "too large.*exceeds limit"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "a PostScript file and not an image"),
    "half": (WHOLE, "not an image that Pillow knows|damaged"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image_is_named_as_what_it_is(kind: str, tmp_path: Path) -> None:
    content, message = BROKEN[kind]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=message):
        decoded([found_file(str(tmp_path / "a.png"), 0)], SIZE)


def test_all_that_cannot_be_read_is_counted_in_one_pass(tmp_path: Path) -> None:
    for number in range(30):
        EIGHT.save(tmp_path / f"{number:02}.png")
        if number % 2:
            (tmp_path / f"{number:02}.png").write_bytes(b"<html>")
    files = [found_file(str(path), 0) for path in sorted(tmp_path.glob("*.png"))]
    with pytest.raises(InputError) as caught:
        decoded(files, SIZE)
    lines = str(caught.value).splitlines()
    assert "15 of 30 images cannot be read" in lines[0]
    assert [f"{number:02}.png" in line for number, line in zip(range(1, 21, 2), lines[1:11], strict=True)] == [
        True
    ] * 10
    assert lines[11].strip() == "and 5 more"


def folder(root: Path, write: Callable[[Path], object], ending: str = "png") -> str:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            Image.fromarray(np.roll(RAMP, number).astype(np.uint8)).save(root / name / f"{number}.png")
    write(root / "dog" / f"9.{ending}")
    return str(root)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_decoded_otherwise_moves_the_fingerprint(kind: str, tmp_path: Path) -> None:
    """A plain file of the same name and size is what an older version saw in every file."""
    ending, write = KINDS[kind]
    root = folder(tmp_path / "a", write, ending)
    mine = build("image_folder", root=root, size=8).fingerprint()
    path = Path(root) / "dog" / f"9.{ending}"
    path.write_bytes(b"x" * path.stat().st_size)
    assert (build("image_folder", root=root, size=8).fingerprint() == mine) == (kind in PLAIN)


@pytest.mark.parametrize("top", [4095, 65535])
def test_dark_images_of_16_bits_and_several_frames_are_said(top: int, tmp_path: Path) -> None:
    deep = (RAMP / 255 * top).astype(np.uint16)
    root = folder(tmp_path / "a", Image.fromarray(deep).save)
    KINDS["animated"][1](Path(root) / "dog" / "8.png")
    said = build("image_folder", root=root, size=8).verify()
    assert any("of 1 file with several frames or pages only the first is used: " in line for line in said)
    dark = [line for line in said if "the largest value is 4095 of 65535, which becomes 15 of 255" in line]
    assert len(dark) == (top == 4095)
