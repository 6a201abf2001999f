"""The task imagenet: torchvision's folders, archives, crops and flips."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor
from torchvision import datasets, transforms
from torchvision.datasets import imagenet as official

from tskd_tune.errors import InputError
from tskd_tune.tasks import build, decoding
from tskd_tune.tasks.base import AUGMENTATION, ORDER, Task
from tskd_tune.tasks.cuts import SEEDS
from tskd_tune.tasks.image_files import FileImages
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")
WNIDS = ["n01440764", "n01443537", "n02102040"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part, each in (("train", 6), ("val", 2)):
        for wnid in WNIDS:
            (tmp_path / "set" / part / wnid).mkdir(parents=True)
            for number in range(each):
                path = tmp_path / "set" / part / wnid / f"{wnid}_{number}.JPEG"
                path.write_bytes(jpeg(f"{part}{wnid}{number}"))
    return tmp_path / "set"


def jpeg(seed: str, size: tuple[int, int] = (90, 70), **options: Any) -> bytes:
    stream = np.random.default_rng(list(seed.encode()))
    coarse = Image.fromarray(stream.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    coarse.save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def made(root: Path, **options: Any) -> Task:
    return build("imagenet", root=str(root), **{"size": 32, "batch_size": 5, "workers": 0, **options})


def parts(task: Task) -> dict[str, list[str]]:
    assert isinstance(task.source, FileImages)
    found: Any = task.source.identity()["data"]
    return {part: [name for name, _, _ in found[part]] for part in found}


def epoch(task: Task, number: int = 0, start: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    feed = task.training(CPU)
    batches = [feed.batch(draw) for draw in feed.draws(Streams(1, number), start)]
    return [(batch.images, batch.targets, batch.indices) for batch in batches]


def same(first: list[tuple[Tensor, ...]], second: list[tuple[Tensor, ...]]) -> bool:
    return [len(row[0]) for row in first] == [len(row[0]) for row in second] and all(
        torch.equal(one, other)
        for mine, theirs in zip(first, second, strict=True)
        for one, other in zip(mine, theirs, strict=True)
    )


def test_the_parts_are_torchvisions_and_the_classes_are_in_the_order_of_wnids(root: Path) -> None:
    task = made(root)
    assert task.facts().samples == (18, 0, 6)
    assert task.facts().image == (3, 32, 32)
    assert list(task.summary().classes) == sorted(WNIDS)
    for part, named in (("training", "train"), ("test", "val")):
        theirs = datasets.ImageFolder(root / named)
        assert [str(Path(path).relative_to(root)) for path, _ in theirs.samples] == parts(task)[part]
        feed = task.training(CPU) if part == "training" else task.evaluation("test", CPU)
        assert feed.targets.tolist() == theirs.targets


@pytest.mark.parametrize(("area", "ratio"), [(0.08, 4 / 3), (0.2, 2.0), (1.0, 1.1)])
def test_crops_and_flips_are_torchvisions_with_the_same_random_numbers(root: Path, area: float, ratio: float) -> None:
    for number, size in enumerate([(200, 20), (20, 200)]):  # where no crop fits: the middle is taken
        (root / "train" / WNIDS[0] / f"{WNIDS[0]}_{number}.JPEG").write_bytes(jpeg("narrow", size))
    task = made(root, min_area=area, max_ratio=ratio)
    theirs = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(area, 1.0), ratio=(1 / ratio, ratio)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    files = datasets.ImageFolder(root / "train")
    streams = Streams(1, 3)
    order = torch.randperm(18, generator=streams.generator(ORDER)).tolist()
    seeds = torch.randint(0, SEEDS, (18, 1), generator=streams.generator(AUGMENTATION))[:, 0].tolist()
    found = epoch(task, 3)
    assert torch.cat([indices for _, _, indices in found]).tolist() == order
    with torch.random.fork_rng():
        for image, index in zip(torch.cat([images for images, _, _ in found]), order, strict=True):
            torch.manual_seed(seeds[index])
            assert torch.equal(image, theirs(files[index][0]))


@pytest.mark.parametrize("resize", [None, 50])
def test_an_evaluation_sees_torchvisions_resize_and_center_crop(root: Path, resize: int | None) -> None:
    shorter = resize or round(32 * 256 / 224)
    theirs = transforms.Compose(
        [
            transforms.Resize(shorter),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    task = made(root, resize=resize)
    feed = task.evaluation("test", CPU)
    found = torch.cat([feed.batch(draw).images for draw in feed.draws()])
    assert torch.equal(found, torch.stack([theirs(image) for image, _ in datasets.ImageFolder(root / "val")]))
    plain = task.training(CPU)
    first = next(plain.batch(draw).images for draw in plain.draws())
    assert torch.equal(first[0], theirs(datasets.ImageFolder(root / "train")[0][0]))


def test_gray_cmyk_and_turned_images_are_decoded_as_in_an_image_folder(root: Path) -> None:
    folder = root / "val" / WNIDS[0]
    Image.new("L", (80, 60), 77).save(folder / "gray.JPEG")
    Image.open(io.BytesIO(jpeg("cmyk"))).convert("CMYK").save(folder / "cmyk.JPEG", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6
    (folder / "turned.JPEG").write_bytes(jpeg("turned", (90, 60), exif=turned))
    feed = made(root, size=60, resize=60).evaluation("test", CPU)
    found = torch.cat([feed.batch(draw).images for draw in feed.draws()])
    names = sorted(path.name for path in folder.iterdir())
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = {name: found[names.index(name)] * std + mean for name in names}
    assert (pixels["gray.JPEG"] * 255).round().unique().tolist() == [77.0]
    for name in ("cmyk.JPEG", "turned.JPEG"):
        expected = decoding.decode_one(str(folder / name), 60) / 255
        assert (pixels[name] - torch.from_numpy(expected)).abs().mean() < 0.02
    upright = np.asarray(Image.open(folder / "turned.JPEG"))
    assert upright.shape == (60, 90, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_has_the_same_bits_with_any_workers_and_from_any_step(root: Path, workers: int) -> None:
    whole = epoch(made(root), 2)
    assert len(whole) == 4
    assert same(epoch(made(root, workers=workers), 2), whole)
    assert same(epoch(made(root, workers=workers), 2, start=2), whole[2:])
    assert not same(epoch(made(root), 1), whole)


def test_torchs_global_generator_is_left_alone(root: Path) -> None:
    before = torch.get_rng_state()
    epoch(made(root))
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_images_are_held_out_of_train_by_a_seed(root: Path) -> None:
    first, again, other = (parts(made(root, validation=6, split_seed=seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first["validation"]) == 6 and all(name.startswith("train/") for name in first["validation"])
    assert not set(first["validation"]) & set(first["training"])
    assert [sum(name.startswith(f"train/{wnid}/") for name in first["validation"]) for wnid in WNIDS] == [2, 2, 2]


def test_a_val_folder_that_was_never_sorted_is_refused(root: Path) -> None:
    for path in list((root / "val").rglob("*.JPEG")):
        path.rename(root / "val" / path.name)
    words = (
        r"^task.root: .*/val holds 6 images such as n01440764_0.JPEG in no class folder, so that their classes are"
        r" unknown; remove val/, put ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz into .*set and set"
        r" task.unpack to true, or sort the images into val/<wnid>/$"
    )
    with pytest.raises(InputError, match=words):
        made(root).facts()


def test_class_folders_that_are_no_wnids_are_refused(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / WNIDS[0]).rename(root / part / "tench")
    with pytest.raises(
        InputError, match=r"holds the class folders tench, which are no wnids .* use the task image_folder"
    ):
        made(root).facts()


def test_what_is_missing_is_named_with_what_to_do(root: Path) -> None:
    (root / "val").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"^task: imagenet is not in .*set \(it has no val/\); put train/<wnid>/"):
        made(root).facts()
    (root / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(
        InputError, match=r"\(it has no val/\); ILSVRC2012_img_val.tar is there: set task.unpack to true"
    ):
        made(root).facts()
    with pytest.raises(
        InputError, match=r"^task.unpack: .* ILSVRC2012_devkit_t12.tar.gz is not present .*; get ILSVRC"
    ):
        made(root, unpack=True).facts()
    with pytest.raises(InputError, match=r"^task: imagenet is not in .*data/imagenet "):
        build("imagenet").facts()


def test_a_train_folder_whose_archives_were_never_unpacked_is_refused(root: Path) -> None:
    (root / "train" / "n03000000.tar").touch()
    with pytest.raises(InputError, match=r"train holds 1 archive of classes, such as n03000000.tar, that was never"):
        made(root).facts()


def test_torchvisions_archives_are_unpacked_and_give_the_names_of_the_classes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    write_archives(root, packed, monkeypatch)
    (packed / "train.unpacking").mkdir()  # what an interrupted unpacking leaves
    task = made(packed, unpack=True)
    assert parts(task)["training"] == parts(made(root))["training"]
    assert {Path(name).name for name in parts(task)["test"]} == {f"ILSVRC2012_val_{n:08}.JPEG" for n in range(6)}
    feed = task.evaluation("test", CPU)
    assert feed.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert list(task.summary().classes) == [f"{wnid} word {n}" for n, wnid in enumerate(WNIDS)]
    assert sorted(path.name for path in packed.iterdir() if path.is_dir()) == ["train", "val"]
    theirs = datasets.ImageNet(packed, "val")
    assert [str(Path(path).relative_to(packed)) for path, _ in theirs.samples] == parts(task)["test"]
    (packed / "meta.bin").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"meta.bin is not what torchvision writes"):
        made(packed).facts()


def write_archives(root: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(packed / "ILSVRC2012_img_train.tar", "w") as whole:
        for wnid in WNIDS:
            with tarfile.open(packed / f"{wnid}.tar", "w") as one:
                for path in sorted((root / "train" / wnid).iterdir()):
                    one.add(path, path.name)
            whole.add(packed / f"{wnid}.tar", f"{wnid}.tar")
            (packed / f"{wnid}.tar").unlink()
    order = sorted((root / "val").rglob("*.JPEG"))
    with tarfile.open(packed / "ILSVRC2012_img_val.tar", "w") as whole:
        for number, path in enumerate(order):
            whole.add(path, f"ILSVRC2012_val_{number:08}.JPEG")
    names: Mapping[str, tuple[str, ...]] = {wnid: (f"word {n}", "other") for n, wnid in enumerate(WNIDS)}
    torch.save((names, [path.parent.name for path in order]), packed / "meta.bin")
    for part, (file, _) in list(official.ARCHIVE_META.items()):
        if (packed / file).exists():
            digest = hashlib.md5((packed / file).read_bytes()).hexdigest()
            monkeypatch.setitem(official.ARCHIVE_META, part, (file, digest))


def test_damaged_images_are_counted_before_a_training_and_sound_ones_are_verified_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = root / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"
    sound = victim.read_bytes()
    victim.write_bytes(b"")
    with pytest.raises(InputError, match=r"1 of 24 images cannot be read; repair or remove:"):
        made(root).verify()
    victim.write_bytes(sound)
    assert list(made(root).verify()) == []
    monkeypatch.setattr(decoding, "_decode", None)
    assert list(made(root).verify()) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"resize": 31}, InputError, r"^task.resize: 31 is less than task.size, 32"),
        ({"workers": 0, "prefetch": 2}, InputError, r"^task.prefetch: 2 does not apply where task.workers is 0"),
        ({"size": 31}, ValidationError, "greater than or equal to 32"),
        ({"max_ratio": 0.9}, ValidationError, "greater than or equal to 1"),
        ({"min_area": 0.0}, ValidationError, "greater than 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    root: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        made(root, **options)
