from __future__ import annotations

from pathlib import Path

import pytest

from tskd_tune.tasks import doubles as module
from tskd_tune.tasks.decoding import ImageFile
from tskd_tune.tasks.doubles import doubles
from tskd_tune.tasks.image_files import found_file


def write(folder: Path, label: int = 0, **contents: str) -> list[ImageFile]:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [found_file(str(folder / name), label) for name in contents]


def name(file: ImageFile) -> str:
    return "/".join(Path(file.path).parts[-2:])


def test_files_of_two_sets_with_the_same_bytes_are_counted_with_the_first_pair(tmp_path: Path) -> None:
    training = write(tmp_path / "train", a="one", b="two", c="three", d="one")
    validation = write(tmp_path / "val", e="six", f="three")
    test = write(tmp_path / "test", label=1, g="xxx", h="two", i="one", j="six")
    assert doubles(training, validation, test, name) == [
        "task.root: the training set holds 1 of the 2 validation images too, byte for byte, such as val/f, which is"
        " train/c; remove them from one set",
        "task.root: the training set holds 2 of the 4 test images too, byte for byte, such as test/h, which is train/b"
        " with another class; remove them from one set",
        "task.root: the validation set holds 1 of the 4 test images too, byte for byte, such as test/j, which is val/e"
        " with another class; remove them from one set",
    ]


def test_the_same_bytes_within_a_set_are_no_double(tmp_path: Path) -> None:
    assert doubles(write(tmp_path / "train", a="one", b="one"), [], write(tmp_path / "test", c="two"), name) == []


def test_only_files_of_a_size_that_two_sets_have_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda path: (read.append(Path(path).name), digest(path))[1])
    doubles(write(tmp_path / "train", a="1", b="22", c="1"), [], write(tmp_path / "test", d="1", e="333"), name)
    assert sorted(read) == ["a", "c", "d"]
