from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from tskd_tune.errors import InputError
from tskd_tune.tasks import build, decoding
from tskd_tune.tasks.tiny_imagenet import NORMALIZATIONS, Selection, split_tiny_imagenet

CPU = torch.device("cpu")
WNIDS = ["n02124075", "n01443537", "n04067472"]
"""Three of the classes, in the order of the published file, which is not that of names."""
ORDER = sorted(WNIDS)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The published layout, in the folder above it: gray levels say what file it is, as closely as JPEG keeps them."""
    folder = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
        for number in range(6):
            save(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", WNIDS.index(wnid), number * 20)
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for number in range(7):
        wnid = WNIDS[(2 * number) % 3]
        save(folder / "val" / "images" / f"val_{number}.JPEG", WNIDS.index(wnid), 200)
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "test" / "images").mkdir(parents=True)
    save(folder / "test" / "images" / "test_0.JPEG", 0, 0)
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (folder / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")
    return tmp_path


def save(path: Path, label: int, level: int) -> None:
    Image.new("RGB", (64, 64), (label * 80, level, 0)).save(path, quality=95, subsampling=0)


def paths(root: Path, **options: Any) -> dict[str, list[str]]:
    chosen = Selection(**{"validation": 0, "split_seed": 0, "fraction": None, **options})
    parts = split_tiny_imagenet(root / "tiny-imagenet-200", chosen)
    return {part: [name for name, _, _ in parts.named(part)] for part in ("training", "validation", "test")}


def read(root: Path, **options: Any):
    return build("tiny_imagenet", root=str(root), **options).source.read()  # type: ignore[attr-defined]


def test_the_parts_and_their_classes(root: Path) -> None:
    facts = build("tiny_imagenet", root=str(root), validation=6).facts()
    assert (facts.outputs, facts.inputs, facts.samples) == (3, (3, 64, 64), (12, 6, 7))
    parts = read(root)
    for part in (parts.training, parts.test):
        reds = (part.images[:, 0].double().mean((1, 2)) / 80).round().long()
        assert [ORDER.index(WNIDS[red]) for red in reds] == part.targets.tolist()
    assert parts.training.targets.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert parts.test.targets.tolist() == [ORDER.index(WNIDS[(2 * number) % 3]) for number in range(7)]


def test_the_images_of_the_test_part_are_those_of_the_annotations(root: Path) -> None:
    save(root / "tiny-imagenet-200" / "val" / "images" / "val_99.JPEG", 0, 0)
    assert paths(root)["test"] == [f"val/images/val_{number}.JPEG" for number in range(7)]
    assert paths(root)["training"][0] == f"train/{ORDER[0]}/images/{ORDER[0]}_0.JPEG"


def test_gray_files_become_color(root: Path) -> None:
    gray = root / "tiny-imagenet-200" / "train" / ORDER[0] / "images" / f"{ORDER[0]}_0.JPEG"
    Image.new("L", (64, 64), 90).save(gray)
    assert (read(root).training.images[0] == 90).all()


def test_the_size(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = root / "tiny-imagenet-200" / "train" / ORDER[0] / "images" / f"{ORDER[0]}_0.JPEG"
    Image.fromarray(noise).save(file)
    whole, half = read(root).training.images[0], read(root, size=32).training.images[0]
    with Image.open(file) as picture:
        assert np.array_equal(whole.permute(1, 2, 0).numpy(), np.asarray(picture))
        scaled = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(half.permute(1, 2, 0).numpy(), scaled)
    assert build("tiny_imagenet", root=str(root), size=32).facts().inputs == (3, 32, 32)
    with pytest.raises(ValidationError, match="size"):
        build("tiny_imagenet", size=48)


def test_validation_images_and_a_fraction_come_out_of_train(root: Path) -> None:
    whole, part = paths(root, validation=6), paths(root, validation=6, fraction=0.5)
    assert [len(whole[name]) for name in ("training", "validation", "test")] == [12, 6, 7]
    assert len(part["training"]) == 6 and set(part["training"]) < set(whole["training"])
    assert (part["validation"], part["test"]) == (whole["validation"], whole["test"])
    assert all(name.startswith("train/") for name in whole["validation"])
    assert paths(root, validation=6, split_seed=1)["validation"] != whole["validation"]


def test_a_fraction_finds_what_was_decoded_for_all(root: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("tiny_imagenet", root=str(root)).training(CPU)
    monkeypatch.setattr(decoding, "_decode", None)
    build("tiny_imagenet", root=str(root), fraction=0.5, validation=3).training(CPU)
    assert len(list((data / "decoded").glob("*.npy"))) == 1


def test_the_constants() -> None:
    tiny = NORMALIZATIONS["tiny_imagenet"]
    assert (tiny.mean, tiny.std) == ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))
    assert NORMALIZATIONS["imagenet"].mean == (0.485, 0.456, 0.406)


def test_the_normalization_is_an_option(root: Path) -> None:
    noise = np.random.default_rng(0)
    for path in root.rglob("*.JPEG"):
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    assert read(root).normalization == NORMALIZATIONS["tiny_imagenet"]
    assert read(root, normalization="imagenet").normalization == NORMALIZATIONS["imagenet"]
    measured = read(root, normalization="measured", fraction=0.5)
    pixels = measured.training.images.double() / 255
    assert measured.normalization.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)


def test_facts_and_fingerprint_open_no_image(root: Path) -> None:
    for path in root.rglob("*.JPEG"):
        path.write_bytes(b"no image")
    task = build("tiny_imagenet", root=str(root))
    assert task.facts().samples == (18, 0, 7)
    assert len(task.fingerprint()) == 64


def test_the_folder_is_in_the_data_folder_by_default(root: Path, data: Path) -> None:
    data.mkdir()
    plain = build("tiny_imagenet", root=str(root)).fingerprint()
    (root / "tiny-imagenet-200").rename(data / "tiny-imagenet-200")
    assert build("tiny_imagenet").fingerprint() == plain
    assert build("tiny_imagenet", fraction=1.0, batch_size=3).fingerprint() == plain
    assert len({plain, *(build("tiny_imagenet", **o).fingerprint() for o in ({"fraction": 0.5}, {"size": 32}))}) == 3


@pytest.mark.parametrize("missing", ["wnids.txt", "val/val_annotations.txt"])
def test_a_missing_list_says_where_to_get_the_set_and_how_it_should_lie(root: Path, missing: str) -> None:
    (root / "tiny-imagenet-200" / missing).unlink()
    match = (
        rf"tiny_imagenet is not in .*{missing} cannot be read: No such file.*unpack http.*/tiny-imagenet-200.zip there"
    )
    with pytest.raises(InputError, match=match):
        build("tiny_imagenet", root=str(root)).facts()


def test_a_missing_class_and_a_missing_image_are_named(root: Path) -> None:
    (root / "tiny-imagenet-200" / "train" / ORDER[1]).rename(root / "elsewhere")
    with pytest.raises(InputError, match=rf"no images in .*train/{ORDER[1]} .*unpack http.*zip anew"):
        build("tiny_imagenet", root=str(root)).facts()
    (root / "elsewhere").rename(root / "tiny-imagenet-200" / "train" / ORDER[1])
    (root / "tiny-imagenet-200" / "val" / "images" / "val_3.JPEG").unlink()
    with pytest.raises(InputError, match=r"val_3.JPEG cannot be read \(No such file"):
        build("tiny_imagenet", root=str(root)).facts()


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn99999999\t0\t0\t1\t1", "\tval_0.JPEG"])
def test_an_annotation_that_names_no_class_is_shown(root: Path, line: str) -> None:
    (root / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text(line + "\n")
    with pytest.raises(
        InputError, match=r"val_annotations.txt has the line '.*', which does not name a file and a class"
    ):
        build("tiny_imagenet", root=str(root)).facts()


def test_images_that_are_missing_are_counted(root: Path) -> None:
    for number in (1, 3, 4, 5):
        (root / "tiny-imagenet-200" / "val" / "images" / f"val_{number}.JPEG").unlink()
    with pytest.raises(InputError, match=r"val_1.JPEG cannot be read.*; .*val_4.JPEG.* .and 1 other file.; repair"):
        build("tiny_imagenet", root=str(root)).facts()


def test_names_in_another_case_are_missing(root: Path) -> None:
    images = root / "tiny-imagenet-200" / "val" / "images"
    (images / "val_3.JPEG").rename(images / "val_3.jpeg")
    with pytest.raises(InputError, match=r"val_3.JPEG cannot be read"):
        build("tiny_imagenet", root=str(root)).facts()


def test_the_summary_names_classes_in_words_and_what_no_line_names(root: Path) -> None:
    save(root / "tiny-imagenet-200" / "val" / "images" / "val_99.JPEG", 0, 0)
    (root / "tiny-imagenet-200" / "train" / "n99999999").mkdir()
    found = build("tiny_imagenet", root=str(root), fraction=0.5).summary()
    assert found.classes[0] == "n01443537 goldfish"
    assert found.origins == ("train/", "task.validation", "val/")
    assert {left.why: left.count for left in found.left_out} == {
        "no line in val_annotations.txt": 1,
        "no class of the data set": 1,
        "the ending .txt is not read": 3,
        "for task.fraction or task.valid_part": 9,
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "val/val_annotations.txt",
            f"val_0.JPEG\t{WNIDS[0]}\nval_0.JPEG\t{WNIDS[1]}\n".encode(),
            "names val_0.JPEG twice",
        ),
        ("wnids.txt", f"{WNIDS[0]}\n{WNIDS[0]}\n".encode(), f"names {WNIDS[0]} twice"),
        ("wnids.txt", b"", "names 0 classes, not at least 2"),
        ("wnids.txt", b"\xff\xfe\x00", "wnids.txt is no text file"),
        ("words.txt", b"\xff\xfe\x00", "words.txt is no text file"),
    ],
)
def test_damaged_lists_are_sentences(root: Path, name: str, content: bytes, message: str) -> None:
    (root / "tiny-imagenet-200" / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{message}.*unpack http"):
        build("tiny_imagenet", root=str(root)).facts()


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt", "val/images/val_0.JPEG"])
def test_a_pipe_is_refused_and_not_waited_for(root: Path, name: str) -> None:
    file = root / "tiny-imagenet-200" / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="it is a pipe or a device, not a file on a disk"):
        paths(root)
