from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tskd_tune.errors import InputError
from tskd_tune.tasks import decoding
from tskd_tune.tasks.image_files import FileImages, FileParts, few, found_file, held_out, listed

NAMES = ["a", "a b", "a-b"]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for label, name in enumerate(NAMES):
        (tmp_path / "set" / name / "deeper").mkdir(parents=True)
        for number in range(6):
            folder = tmp_path / "set" / name / ("deeper" if number % 2 else "")
            Image.new("RGB", (4, 4), (label * 50, number * 10, number)).save(folder / f"{number}.png")
    return tmp_path / "set"


def found(root: Path):
    return listed(root, NAMES, remedy="add some")


def test_files_are_listed_with_their_class_and_size(root: Path) -> None:
    assert [Path(file.path).parts[len(root.parts)] for file in found(root)] == [n for n in NAMES for _ in range(6)]
    assert [file.label for file in found(root)] == [0] * 6 + [1] * 6 + [2] * 6
    assert all(file.bytes == Path(file.path).stat().st_size for file in found(root))


def test_everything_is_in_the_order_of_pathlib_whatever_the_split(root: Path) -> None:
    files = found(root)
    expected = sorted(Path(file.path) for file in files)
    assert sorted(file.path for file in files) != [str(path) for path in expected]
    whole = FileParts(root, NAMES, files, [], [])
    parts = FileParts(root, NAMES, files[9:], files[3:6], files[:3], files[6:9])
    for split in (whole, parts):
        assert [Path(file.path) for file in split.everything] == expected


def test_names_are_relative_and_have_slashes(root: Path) -> None:
    parts = FileParts(root, NAMES, found(root), [], [])
    assert ("a-b/deeper/5.png", 2, (root / "a-b/deeper/5.png").stat().st_size) in parts.named("training")
    above = FileParts(Path("/"), NAMES, found(root), [], [])
    assert above.named("training")[0][0] == str(root / "a/0.png")[1:]


def test_a_class_without_images_and_a_file_that_is_not_there(root: Path) -> None:
    with pytest.raises(InputError, match=r"task.root: there are no images in .*set/none \(.jpg.*\); add some"):
        listed(root, [*NAMES, "none"], remedy="add some")
    with pytest.raises(InputError, match=r"task.root: .*nothing.png cannot be read \(No such file"):
        found_file(str(root / "nothing.png"), 0)


def test_what_is_held_out_and_what_is_left_out_are_told_with_the_rest(root: Path) -> None:
    files = found(root)
    for taken, left in (held_out(files, 6, seed=0, names=NAMES, option="validation"), few(files, 1 / 3, NAMES)):
        assert [file.label for file in taken] == [0, 0, 1, 1, 2, 2]
        assert sorted([*taken, *left]) == sorted(files)
    assert few(files, None, NAMES) == (files, [])


def test_another_split_of_the_same_files_finds_them_decoded(
    root: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(fraction: float | None):
        files = found(root)
        held, left = held_out(files, 3, seed=0, names=NAMES, option="validation")
        used, unused = few(left, fraction, NAMES)
        parts = FileParts(root, NAMES, used, held, held, unused)
        return FileImages(lambda: parts, size=4, normalization="measured", constants=None).read()

    whole = read(None)
    monkeypatch.setattr(decoding, "_decode", None)
    part = read(0.5)
    assert len(list((data / "decoded").glob("*.npy"))) == 1
    assert (len(whole.training.targets), len(part.training.targets)) == (15, 6)
    assert torch.equal(whole.validation.images, part.validation.images)
    assert (part.training.images[:, 0, 0, 0] == 50 * part.training.targets).all()
    assert part.normalization != whole.normalization


def test_nothing_is_looked_at_before_it_is_asked_for() -> None:
    def fail() -> FileParts:
        raise AssertionError("the files were listed")

    FileImages(fail, size=4, normalization="measured", constants=None)
