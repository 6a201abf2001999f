from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks import build, decoding
from tskd_tune.tasks.image_files import FileImages
from tskd_tune.tasks.image_folder import Selection, split_folder
from tskd_tune.tasks.images import IMAGENET, Normalization
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")
REAL = os.environ.get("TSKD_TUNE_TIN100")
ANIMALS = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("TSKD_TUNE_DATA", str(folder))
    return folder


def fill(folder: Path, names: Sequence[str] = ANIMALS, each: int = 5, size: tuple[int, int] = (8, 8)) -> Path:
    """Write images of one gray level each, which says what file it was."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            Image.new("RGB", size, (label * 50, number * 10, 7 * len(folder.name))).save(
                folder / name / f"{number}.png"
            )
    return folder


def selection(**options: int | float) -> Selection:
    defaults = {"validation": 0, "split_seed": 0, "classes": None, "per_class": None, "test_fraction": None}
    return Selection(**{**defaults, **options})


def source(
    folder: Path, size: int = 8, constants: Normalization | None = IMAGENET, **options: int | float
) -> FileImages:
    return FileImages(
        lambda: split_folder(folder, selection(**options)), size=size, normalization="imagenet", constants=constants
    )


def paths(folder: Path, **options: int | float) -> dict[str, list[str]]:
    parts = split_folder(folder, selection(**options))
    return {part: [name for name, _, _ in parts.named(part)] for part in ("training", "validation", "test")}


def test_train_beside_test(tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "test", each=2)
    found = paths(root)
    assert found["training"] == [f"train/{name}/{n}.png" for name in ANIMALS for n in range(5)]
    assert found["test"] == [f"test/{name}/{n}.png" for name in ANIMALS for n in range(2)]
    assert found["validation"] == []


def test_train_beside_val(tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "val", each=2)
    found = paths(root, validation=3)
    assert found["test"] == [f"val/{name}/{n}.png" for name in ANIMALS for n in range(2)]
    assert [Path(path).parent.as_posix() for path in found["validation"]] == [f"train/{name}" for name in ANIMALS]
    assert len(found["training"]) == 12
    assert set(found["validation"]).isdisjoint(found["training"])


def test_all_three_folders(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part, each in (("train", 5), ("val", 1), ("test", 2)):
        fill(root / part, each=each)
    found = paths(root)
    assert found["validation"] == [f"val/{name}/0.png" for name in ANIMALS]
    assert {Path(path).parts[0] for path in found["test"]} == {"test"}
    with pytest.raises(InputError, match=r"task.validation: .* has validation images of its own in val/, but 3"):
        paths(root, validation=3)


def test_a_single_folder_is_split_by_a_constant_seed(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", each=10)
    found = paths(root)
    assert (len(found["training"]), len(found["test"])) == (24, 6)
    assert sorted({Path(path).parts[0] for path in found["test"]}) == list(ANIMALS)
    assert set(found["test"]).isdisjoint(found["training"])
    assert paths(root, split_seed=5, validation=6, per_class=4)["test"] == found["test"]
    assert len(paths(root, test_fraction=0.5)["test"]) == 15


def test_the_split_seed_moves_the_validation_part_alone(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", each=10)
    first, second = paths(root, validation=6), paths(root, validation=6, split_seed=1)
    assert first["validation"] != second["validation"]
    assert first["test"] == second["test"]


def test_a_part_of_the_classes_and_of_their_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "test", each=2)
    found = paths(root, classes=2, per_class=3)
    assert found["training"] == [f"train/{name}/{n}.png" for name in ("ant", "bee") for n in range(3)]
    assert found["test"] == [f"test/{name}/{n}.png" for name in ("ant", "bee") for n in range(2)]
    held = paths(root, per_class=3, validation=3)
    assert (len(held["training"]), len(held["validation"])) == (6, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 4}, "task.classes: 4 were asked for but .* has 3"),
        ({"per_class": 6}, "task.per_class: class 'ant' has 5 training images but 6"),
        (
            {"validation": 14},
            "task.validation: class 'ant' has 5 images, but needs 6: 5 of the 14 that task.validation takes",
        ),
        ({"test_fraction": 0.5}, "task.test_fraction: is 0.5, but .* has a test set of its own in test/"),
    ],
)
def test_options_that_ask_for_too_much(tmp_path: Path, options: dict[str, float], message: str) -> None:
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "test", each=2)
    with pytest.raises(InputError, match=message):
        source(root, **options).facts()


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task.root: there is no folder .*nowhere"):
        source(tmp_path / "nowhere").facts()


def test_a_folder_without_class_folders(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match="has 0 class folders, at least 2 are needed"):
        source(tmp_path / "set").facts()


def test_train_alone(tmp_path: Path) -> None:
    fill(tmp_path / "set" / "train")
    with pytest.raises(InputError, match=r"has train/ but neither test/ nor val/; add one, or give .*train"):
        source(tmp_path / "set").facts()


def test_a_class_without_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "set")
    (root / "dog").mkdir()
    (root / "dog" / "notes.txt").write_text("none yet")
    with pytest.raises(InputError, match=r"there are no images in .*dog \(.jpg"):
        source(root).facts()


def test_different_classes_in_two_parts(tmp_path: Path) -> None:
    root = tmp_path / "set"
    fill(root / "train")
    fill(root / "test", names=("ant", "bee", "cow"))
    with pytest.raises(InputError, match=r"hold different classes \('cat' is only in one, 2 in all\)"):
        source(root).facts()


def test_a_file_that_vanishes_after_the_look_is_a_failure_of_the_run(tmp_path: Path) -> None:
    root = fill(tmp_path / "set")
    images = source(root)
    images.facts()
    (root / "bee" / "2.png").unlink()
    with pytest.raises(RunError, match=r"bee/2.png vanished while the images were read"):
        images.read()


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    root = fill(tmp_path / "set")
    (root / "bee" / "z.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"bee/z.png cannot be read"):
        source(root).facts()


def test_images_keep_their_class_whatever_the_part(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", each=10)
    read = source(root, validation=6).read()
    files = split_folder(root, selection(validation=6))
    for part, labeled in (("training", read.training), ("validation", read.validation), ("test", read.test)):
        expected = [(file.label, file.label * 50, int(Path(file.path).stem) * 10) for file in getattr(files, part)]
        corner = labeled.images[:, :2, 0, 0].tolist()
        assert [(t, *c) for t, c in zip(labeled.targets.tolist(), corner, strict=True)] == expected


def test_images_are_decoded_once(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "set")
    first = source(root).read()
    kept = list((data / "decoded").glob("*.npy"))
    assert len(kept) == 1
    monkeypatch.setattr(decoding, "_decode", None)
    again = source(root, validation=3).read()
    assert torch.equal(first.test.images, again.test.images)
    assert sorted(path.suffix for path in (data / "decoded").iterdir()) == [".lock", ".npy"]


def test_a_data_folder_that_cannot_be_written_is_refused_by_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(InputError, match="cannot be written"):
        source(fill(tmp_path / "set")).facts()


def test_the_normalization_is_measured_in_the_training_part_or_imagenets(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", each=10)

    for path in root.rglob("*.png"):
        noise = np.random.default_rng(int(path.stem)).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    read = source(root, constants=None, validation=6).read()
    pixels = read.training.images.double() / 255
    assert read.normalization.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    imagenet = source(root, validation=6).read().normalization
    assert (imagenet.mean, imagenet.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_a_copy_of_the_folder_is_the_same_data(tmp_path: Path) -> None:
    first, second = fill(tmp_path / "a" / "set"), fill(tmp_path / "b" / "set")
    os.utime(second / "ant" / "0.png", (1, 1))
    plain = build("image_folder", root=str(first)).fingerprint()
    assert build("image_folder", root=str(second), batch_size=3).fingerprint() == plain
    (second / "ant" / "0.png").unlink()
    assert build("image_folder", root=str(second)).fingerprint() != plain


def test_the_fingerprint_stays_what_it_was(tmp_path: Path) -> None:
    """Written down once: one that moved would lose cached teachers."""
    for part, each in (("train", 6), ("test", 2)):
        for label, name in enumerate(("ant", "bee")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(each):
                (tmp_path / part / name / f"{number}.png").write_bytes(bytes(10 * label + number + 1))
    other = {"validation": 4, "split_seed": 1, "per_class": 5, "size": 8, "padding": 1, "normalization": "imagenet"}
    assert [
        build("image_folder", root=str(tmp_path), **options).fingerprint() for options in ({}, {**other, "flip": False})
    ] == [
        "5ea49e743fdcb3bdbff5d8840465d04a6a53effb1d4a1c895f18a70ec00d4c08",
        "6b81c5d891cf9e5cf14e25c03c46a126573ec490921c2dbff6ce67998cb6d5a4",
    ]


def test_a_root_relative_to_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "set")
    monkeypatch.chdir(root)
    assert build("image_folder", root=".").fingerprint() == build("image_folder", root=str(root)).fingerprint()


@pytest.mark.skipif(REAL is None, reason="TSKD_TUNE_TIN100 names no folder of 100 classes of Tiny ImageNet at 32 x 32")
def test_real_images() -> None:
    assert REAL is not None
    task = build("image_folder", root=REAL, classes=20, per_class=100, validation=200)
    assert task.facts().samples == (1800, 200, 1000)
    feed = task.training(CPU)
    batches = [feed.batch(draw) for draw in feed.draws(Streams(1, 0))]
    assert torch.bincount(torch.cat([batch.targets for batch in batches])).tolist() == [90] * 20
    assert batches[0].images.shape == (128, 3, 32, 32)
    assert abs(float(batches[0].images.std()) - 1) < 0.2
