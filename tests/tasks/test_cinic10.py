from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError

from tskd_tune.errors import InputError
from tskd_tune.tasks import build, decoding
from tskd_tune.tasks.cinic10 import CLASSES, NORMALIZATION, Selection, split_cinic10
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")
EACH = {"train": 5, "valid": 4, "test": 3}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The published layout, with images of CIFAR-10 and of ImageNet by their names."""
    stream = np.random.default_rng(0)
    for part, each in EACH.items():
        for name in CLASSES:
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(each):
                file = f"cifar10-{part}-{number}.png" if number % 2 else f"n0123_{number}.png"
                pixels = stream.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / file)
    return tmp_path / "set"


def paths(root: Path, **options: Any) -> dict[str, list[str]]:
    chosen = Selection(**{"valid_part": "unused", "validation": 0, "split_seed": 0, "fraction": None, **options})
    parts = split_cinic10(root, chosen)
    return {part: [name for name, _, _ in parts.named(part)] for part in ("training", "validation", "test")}


def folders(names: list[str]) -> set[str]:
    return {name.partition("/")[0] for name in names}


def test_images_and_classes_are_as_torchvision_reads_the_folders(root: Path) -> None:
    task = build("cinic10", root=str(root), padding=0, flip=False)
    feed = task.training(CPU)
    batches = [feed.batch(draw) for draw in feed.draws(Streams(1, 0))]
    images = torch.cat([batch.images for batch in batches])[torch.cat([b.indices for b in batches]).argsort()]
    theirs = torchvision.datasets.ImageFolder(root / "train")
    assert theirs.classes == CLASSES
    assert feed.targets.tolist() == theirs.targets
    constants = (NORMALIZATION.mean, NORMALIZATION.std)
    for image, (picture, _) in zip(images, theirs, strict=True):
        pixels = torchvision.transforms.functional.to_tensor(picture)
        assert torch.equal(image, torchvision.transforms.functional.normalize(pixels, *constants))


def test_the_classes_are_those_of_cifar10_in_its_order() -> None:
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert names.split() == CLASSES


def test_the_constants_are_the_published_ones() -> None:
    assert NORMALIZATION.mean == (0.47889522, 0.47227842, 0.43047404)
    assert NORMALIZATION.std == (0.24205776, 0.23828046, 0.25874835)


def test_what_the_valid_part_is(root: Path) -> None:
    by_default = build("cinic10", root=str(root)).facts()
    assert (by_default.samples, by_default.outputs, by_default.inputs) == ((50, 40, 30), 10, (3, 32, 32))
    found = paths(root, valid_part="validation")
    assert (folders(found["training"]), folders(found["validation"])) == ({"train"}, {"valid"})
    merged = paths(root, valid_part="training")
    assert (len(merged["training"]), folders(merged["training"]), merged["validation"]) == (90, {"train", "valid"}, [])
    bare = paths(root)
    assert (len(bare["training"]), folders(bare["training"]), bare["validation"]) == (50, {"train"}, [])
    assert found["test"] == merged["test"] == bare["test"]
    assert folders(bare["test"]) == {"test"}


def test_validation_images_come_out_of_what_is_trained_on(root: Path) -> None:
    merged = paths(root, valid_part="training", validation=20)
    assert [len(merged[part]) for part in ("training", "validation")] == [70, 20]
    assert folders(merged["validation"]) == {"train", "valid"}
    bare = paths(root, validation=20)
    assert folders(bare["validation"]) == {"train"} and set(bare["validation"]).isdisjoint(bare["training"])
    assert paths(root, validation=20, split_seed=1)["validation"] != bare["validation"]


def test_a_validation_part_beside_the_published_one_is_refused(root: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"task.validation: valid/ is used whole as the validation set, but 20 .*set task.validation to 0",
    ):
        build("cinic10", root=str(root), validation=20).facts()


def test_a_fraction_moves_the_training_part_alone(root: Path) -> None:
    whole, part = paths(root, validation=10), paths(root, validation=10, fraction=0.5)
    assert (len(whole["training"]), len(part["training"])) == (40, 20)
    assert set(part["training"]) < set(whole["training"])
    assert (part["validation"], part["test"]) == (whole["validation"], whole["test"])
    assert build("cinic10", root=str(root), fraction=0.5).facts().samples == (20, 40, 30)
    assert paths(root, valid_part="validation", fraction=0.5)["validation"] == sorted(
        paths(root, valid_part="validation")["validation"]
    )


def test_all_settings_share_one_decoding(root: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("cinic10", root=str(root)).training(CPU)
    monkeypatch.setattr(decoding, "_decode", None)
    for options in ({"valid_part": "unused"}, {"valid_part": "training", "validation": 10}, {"fraction": 0.4}):
        build("cinic10", root=str(root), **options).training(CPU)
    assert len(list((data / "decoded").glob("*.npy"))) == 1


def test_facts_and_fingerprint_open_no_image(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(b"no image")
    task = build("cinic10", root=str(root))
    assert task.facts().samples == (50, 40, 30)
    assert len(task.fingerprint()) == 64


def test_the_folder_is_in_the_data_folder_by_default(root: Path, data: Path) -> None:
    data.mkdir()
    root.rename(data / "cinic-10")
    plain = build("cinic10").fingerprint()
    assert build("cinic10", root=str(data / "cinic-10"), batch_size=7).fingerprint() == plain


def test_a_missing_folder_says_where_to_get_the_set_and_how_it_should_lie(root: Path, data: Path) -> None:
    match = (
        r"cinic10 is not in .*data/cinic-10 \(there is no train/\); get CINIC-10.tar.gz from https://doi.org/10.7488"
    )
    with pytest.raises(InputError, match=match):
        build("cinic10").facts()
    (root / "valid").rename(root / "val")
    with pytest.raises(
        InputError, match=r"there is no valid/\).*train/, valid/ and test/ hold a folder for each class"
    ):
        build("cinic10", root=str(root), valid_part="unused").facts()


def test_a_missing_class_is_named(root: Path) -> None:
    (root / "test" / "deer").rename(root / "test" / "elk")
    with pytest.raises(InputError, match=r"no images in .*test/deer .*unpack CINIC-10.tar.gz .* anew"):
        build("cinic10", root=str(root)).facts()


@pytest.mark.parametrize("options", [{"fraction": 0.0}, {"fraction": 1.5}, {"valid_part": "test"}])
def test_options_out_of_their_bounds(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        build("cinic10", **options)


def test_the_fingerprint_holds_names_and_sizes_but_not_the_place(root: Path, tmp_path: Path) -> None:
    plain = build("cinic10", root=str(root)).fingerprint()
    moved = root.rename(tmp_path / "moved")
    assert build("cinic10", root=str(moved)).fingerprint() == plain
    assert build("cinic10", root=str(moved), fraction=1.0).fingerprint() == plain
    (moved / "valid" / "cat" / "n0123_0.png").write_bytes(b"more")
    assert build("cinic10", root=str(moved)).fingerprint() != plain
    unused = [build("cinic10", root=str(moved), valid_part=part).fingerprint() for part in ("unused", "training")]
    assert len({plain, *unused}) == 3, json.dumps(unused)
