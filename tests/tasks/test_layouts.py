"""What a folder of images is taken for: every layout that people have, and those that are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tskd_tune.errors import InputError
from tskd_tune.tasks.image_files import FileParts
from tskd_tune.tasks.image_folder import Selection, split_folder

PLAIN = Selection(validation=0, split_seed=0, classes=None, per_class=None, test_fraction=None)


def lay(root: Path, *folders: str, each: int = 6) -> Path:
    """Make folders of images below a root; ``cats/`` makes a folder without any."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if not folder.endswith("/"):
            for number in range(each):
                Image.new("RGB", (4, 4), (number, 0, 0)).save(root / folder / f"{number}.png")
    return root


def both(*parts: str) -> list[str]:
    return [f"{part}/{name}" for part in parts for name in ("cat", "dog")]


def origins(parts: FileParts) -> tuple[set[str], ...]:
    files = (parts.training, parts.validation, parts.test)
    return tuple({parts.name_of(file).rsplit("/", 1)[0] for file in part} for part in files)


@pytest.mark.parametrize(
    ("folders", "training", "validation", "test"),
    [
        (both("train", "test"), "train", None, "test"),
        (both("Train", "Test"), "Train", None, "Test"),
        (both("TRAIN", "test"), "TRAIN", None, "test"),
        (both("training", "testing"), "training", None, "testing"),
        (both("Training", "val"), "Training", None, "val"),
        (both("train", "Validation"), "train", None, "Validation"),
        (both("train", "valid", "test"), "train", "valid", "test"),
        (both("Train", "VAL", "Testing"), "Train", "VAL", "Testing"),
        ([*both("train", "test"), "docs/", "__MACOSX/train/cat", ".git/x"], "train", None, "test"),
    ],
)
def test_parts_in_folders_of_their_own(
    tmp_path: Path, folders: list[str], training: str, validation: str | None, test: str
) -> None:
    parts = split_folder(lay(tmp_path, *folders), PLAIN)
    assert parts.classes == ["cat", "dog"]
    expected = tuple(set() if part is None else {*both(part)} for part in (training, validation, test))
    assert origins(parts) == expected
    assert (parts.origins[0], parts.origins[2]) == (f"{training}/", f"{test}/")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["bus", "car", "train"], ["bus", "car", "train"]),
        (["cat/persian", "cat/angora", "dog"], ["cat", "dog"]),
        (["cat", "dog", ".ipynb_checkpoints", "__MACOSX/cat", "@eaDir", "cat/.ipynb_checkpoints"], ["cat", "dog"]),
        (["cat", "dog", "later/"], ["cat", "dog"]),
    ],
)
def test_a_single_folder_of_classes(tmp_path: Path, folders: list[str], classes: list[str]) -> None:
    parts = split_folder(lay(tmp_path, *folders), PLAIN)
    assert parts.classes == classes
    used = {name for folder in origins(parts) for name in folder}
    assert not any(word in name for name in used for word in (".ipynb", "__MACOSX", "@eaDir"))
    assert {name.split("/")[0] for name in used} == set(classes)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (both("Train", "train", "test"), "holds Train/, train/, which all name the training set"),
        (both("train", "training", "test"), "which all name the training set"),
        (both("train", "test", "val", "valid"), "holds val/, valid/, which all name the validation set"),
        ([*both("train", "test"), "bird"], r"holds train/, test/ for sets, and beside that images in bird/"),
        ([*both("Train"), "cat", "dog"], r"holds Train/ for sets, and beside that images in cat/, dog/"),
        (["train", "test"], r"train holds 6 images and no class folders"),
        ([*both("train"), "test"], r"test holds 6 images and no class folders, so that the classes .* are unknown"),
        (both("test", "val"), "has val/, test/ but no train/"),
        (both("Train"), "has Train/ but neither test/ nor val/"),
        (both("set/train", "set/test"), r"has 1 class folder,.*; set/ holds test/, train/: give .*set"),
        (["images/cat", "images/dog"], r"images/ holds cat/, dog/: give .*images"),
        (both("train/images", "test/images"), r"images/ holds cat/, dog/: move them up into train/"),
        (["train/cat", "train/dog", "test/cat"], "hold different classes .'dog' is only in one, 1 in all"),
        (["train/cat", "train/dog", "test/cat", "test/dog/"], "'dog' is only in one.*test/dog is there and empty"),
    ],
)
def test_what_can_be_read_in_several_ways_or_none(tmp_path: Path, folders: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_folder(lay(tmp_path, *folders), PLAIN)


def test_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    root = lay(tmp_path, *both("train", "test"), "train/bird/", "test/bird/")
    for name in (
        "train/.DS_Store",
        "train/cat/._1.png",
        "train/cat/Thumbs.db",
        "train/dog/notes.TXT",
        "train/dog/LIST",
    ):
        (root / name).write_text("x")
    (root / "train" / "loose.png").write_bytes(b"x")
    (root / "train" / "cat" / "back").symlink_to(root / "train")
    (root / "train" / "self").symlink_to(root / "train")
    (root / "train" / "dog" / "a").symlink_to(root / "train" / "dog" / "a")
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    parts = split_folder(root, Selection(0, 0, None, 5, None))
    assert {left.why: left.examples for left in parts.left_out} == {
        "hidden": ("train/.DS_Store", "train/cat/._1.png"),
        "made by a tool": ("train/cat/Thumbs.db",),
        "the ending .txt is not read": ("train/dog/notes.TXT",),
        "no ending": ("train/dog/LIST", "train/dog/a"),
        "in no class folder": ("train/loose.png",),
        "empty class folder": ("test/bird", "train/bird"),
        "a link back to a folder above": ("train/cat/back", "train/self"),
        "neither file nor folder": ("train/cat/pipe.png",),
        "beyond task.per_class": ("train/cat/5.png", "train/dog/5.png"),
    }
    assert origins(parts)[0] == {*both("train")}


def test_links_that_lead_around_end(tmp_path: Path) -> None:
    root = lay(tmp_path, "cat/a", "dog/b", each=10)
    (root / "cat" / "a" / "other").symlink_to(root / "dog")
    (root / "dog" / "b" / "other").symlink_to(root / "cat")
    parts = split_folder(root, PLAIN)
    names = [parts.name_of(file) for file in (*parts.training, *parts.test)]
    assert max(name.count("other") for name in names) == 1
    assert len(names) == 40


def test_a_linked_class_is_used(tmp_path: Path) -> None:
    lay(tmp_path / "elsewhere", "cat")
    root = lay(tmp_path / "set", "dog")
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    assert split_folder(root, PLAIN).classes == ["cat", "dog"]


def test_links_to_nothing_are_counted_in_one_message(tmp_path: Path) -> None:
    root = lay(tmp_path, "cat", "dog")
    for number in range(5):
        (root / "dog" / f"gone{number}.png").symlink_to(root / "nothing")
    with pytest.raises(InputError, match=r"dog/gone0.png cannot be read .a link to nothing.; .*and 2 other files"):
        split_folder(root, PLAIN)


def test_classes_beyond_those_asked_for_are_named(tmp_path: Path) -> None:
    parts = split_folder(lay(tmp_path, "ant", "bee", "cat"), Selection(0, 0, 2, None, None))
    assert [(left.why, left.examples) for left in parts.left_out] == [("beyond task.classes", ("cat",))]


@pytest.mark.parametrize(
    "names", [("train_set", "test_set"), ("Training Set", "Test Set"), ("seg-train", "seg-test"), ("train ", "test ")]
)
def test_folders_named_like_parts_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    lay(tmp_path, *both(*names))
    with pytest.raises(InputError, match="named like sets and hold folders of their own; rename them to train/"):
        split_folder(tmp_path, PLAIN)


def test_classes_named_like_parts_stay_classes(tmp_path: Path) -> None:
    assert split_folder(lay(tmp_path, "train_station", "test_tube"), PLAIN).classes == ["test_tube", "train_station"]


def test_a_file_and_loose_images_are_told_from_a_missing_folder(tmp_path: Path) -> None:
    lay(tmp_path / "flat", ".")
    with pytest.raises(InputError, match="has 0 class folders, at least 2 are needed; 6 images in no class folder"):
        split_folder(tmp_path / "flat", PLAIN)
    with pytest.raises(InputError, match=r"0.png is a file; give a folder"):
        split_folder(tmp_path / "flat" / "0.png", PLAIN)


@pytest.mark.parametrize("each", [1, 3])
def test_a_single_folder_too_small_for_a_test_set(tmp_path: Path, each: int) -> None:
    lay(tmp_path, "cat", "dog", each=each)
    with pytest.raises(
        InputError, match=r"test_fraction: 0.2 of \d images is \d test images?, but .* at least 0.|at least 1"
    ):
        split_folder(tmp_path, PLAIN)
