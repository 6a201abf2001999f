"""Every registered task keeps its promises: the kit that outsiders run too, and what classification adds."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from tskd_tune.contracts import Classified
from tskd_tune.tasks import TASKS, Task, build, cifar, cinic10
from tskd_tune.testing import TaskContract
from tskd_tune.testing.tasks import CPU, Make, epoch, evaluated
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate


@dataclass(frozen=True)
class Case:
    """A small setting of a task, and another value of every option, in a setting where it applies."""

    options: Mapping[str, Any]
    flips: Mapping[str, Mapping[str, Any]]
    bases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()
    """Options that say where data lie, whether they may be fetched, or how they are fed; tested beside their task."""


AUGMENTATION = {"padding": {"padding": 3}, "flip": {"flip": True}}
CIFAR = Case(
    options={"validation": 20, "batch_size": 16, "flip": False},
    flips={
        **AUGMENTATION,
        "batch_size": {"batch_size": 8},
        "validation": {"validation": 30},
        "split_seed": {"split_seed": 1},
        "fraction": {"fraction": 0.5},
    },
    unseen=frozenset({"root", "download"}),
)
OTHERS = {"coco", "quadratic"}
"""Detection, which test_box_tasks.py tests, and regression, which tests/tasks/test_quadratic.py tests."""
CASES = {
    "digits": Case(
        options={"validation": 100, "train": 150},
        flips={
            **AUGMENTATION,
            "batch_size": {"batch_size": 32},
            "validation": {"validation": 50},
            "split_seed": {"split_seed": 1},
            "train": {"train": 200},
        },
    ),
    "synthetic": Case(
        options={"validation": 8, "classes": 6},
        flips={
            **AUGMENTATION,
            "batch_size": {"batch_size": 7},
            "classes": {"classes": 3},
            "channels": {"channels": 1},
            "size": {"size": 8},
            "train": {"train": 30},
            "validation": {"validation": 9},
            "test": {"test": 20},
            "noise": {"noise": 5.0},
            "data_seed": {"data_seed": 1},
        },
    ),
    "cifar10": Case(
        CIFAR.options, {**CIFAR.flips, "normalization": {"normalization": "cifar100"}}, unseen=CIFAR.unseen
    ),
    "cifar100": Case(
        {**CIFAR.options, "validation": 100},
        {
            **CIFAR.flips,
            "validation": {"validation": 150},
            "normalization": {"normalization": "cifar10"},
        },
        unseen=CIFAR.unseen,
    ),
    "image_folder": Case(
        options={"size": 8, "batch_size": 8, "validation": 12, "flip": False},
        flips={
            **AUGMENTATION,
            "size": {"size": 6},
            "batch_size": {"batch_size": 5},
            "validation": {"validation": 6},
            "split_seed": {"split_seed": 1},
            "classes": {"classes": 4},
            "per_class": {"per_class": 5},
            "test_fraction": {"test_fraction": 0.4},
            "normalization": {"normalization": "imagenet"},
        },
        unseen=frozenset({"root", "feed", "workers", "prefetch"}),
    ),
    "imagenet": Case(
        options={"size": 32, "validation": 12, "batch_size": 8, "flip": False, "max_ratio": 2.0, "workers": 0},
        flips={
            "size": {"size": 40},
            "resize": {"resize": 50},
            "batch_size": {"batch_size": 5},
            "validation": {"validation": 6},
            "split_seed": {"split_seed": 1},
            "fraction": {"fraction": 0.5},
            "min_area": {"min_area": 0.5},
            "max_ratio": {"max_ratio": 1.1},
            "flip": {"flip": True},
        },
        unseen=frozenset({"root", "workers", "prefetch", "unpack"}),
    ),
    "cinic10": Case(
        options={"valid_part": "training", "validation": 10, "batch_size": 8, "flip": False},
        flips={
            **AUGMENTATION,
            "batch_size": {"batch_size": 5},
            "valid_part": {"valid_part": "unused"},
            "validation": {"validation": 20},
            "split_seed": {"split_seed": 1},
            "fraction": {"fraction": 0.5},
            "normalization": {"normalization": "measured"},
        },
        unseen=frozenset({"root"}),
    ),
    "tiny_imagenet": Case(
        options={"validation": 6, "batch_size": 8, "flip": False, "normalization": "measured"},
        flips={
            **AUGMENTATION,
            "batch_size": {"batch_size": 5},
            "size": {"size": 32},
            "validation": {"validation": 12},
            "split_seed": {"split_seed": 1},
            "fraction": {"fraction": 0.5},
            "normalization": {"normalization": "imagenet"},
        },
        unseen=frozenset({"root"}),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSKD_TUNE_DATA", str(folder))
        write_cifar(folder, patch, "cifar10", "labels", (6, 2))
        write_cifar(folder, patch, "cifar100", "fine_labels", (3, 1))
        write_images(folder / "folder", "abcdef", 10, 8)
        for part, count in (("train", 3), ("valid", 3), ("test", 1)):
            write_images(folder / "cinic-10" / part, cinic10.CLASSES, count, 32)
        write_tiny_imagenet(folder / "tiny-imagenet-200")
        for part, count in (("train", 8), ("val", 2)):
            write_images(folder / "imagenet" / part, [f"n0000000{number}" for number in range(6)], count, 32, "JPEG")
        yield folder


def write_cifar(root: Path, patch: pytest.MonkeyPatch, name: str, key: str, each: tuple[int, int]) -> None:
    known = cifar.KNOWN[name]
    dataset = getattr(torchvision.datasets, known.dataset)
    folder = root / dataset.base_folder
    folder.mkdir()

    def dump(file: str, content: object) -> list[str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    for part, count in zip(("train_list", "test_list"), each, strict=True):
        labels = np.arange(known.classes * count) % known.classes
        stream = np.random.default_rng(count)
        data = stream.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        patch.setattr(dataset, part, [dump(part, {"data": data, key: labels.tolist()})])
    meta = {"filename": dataset.meta["filename"], "key": dataset.meta["key"]}
    md5 = dump(meta["filename"], {meta["key"]: ["name"] * known.classes})[1]
    patch.setattr(dataset, "meta", meta | {"md5": md5})
    patch.setitem(cifar.KNOWN, name, cifar.Known(known.dataset, known.classes, *each))


def write_images(root: Path, folders: Iterable[str], each: int, size: int, ending: str = "png") -> None:
    stream = np.random.default_rng(list(str(root).encode()))
    for name in folders:
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = stream.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.{ending}")


def write_tiny_imagenet(root: Path) -> None:
    wnids = [f"n0{number}" for number in range(6)]
    write_images(root / "train", [f"{wnid}/images" for wnid in wnids], 6, 64, "JPEG")
    write_images(root / "val", ["images"], 12, 64, "JPEG")
    (root / "wnids.txt").write_text("\n".join(wnids))
    lines = [f"{number}.JPEG\t{wnids[number % 6]}\t0\t0\t63\t63\n" for number in range(12)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def made(name: str, data: Path, **options: Any) -> Task:
    where = {"root": str(data / "folder")} if name == "image_folder" else {}
    return build(name, **{**where, **CASES[name].options, **options})


class Answers(nn.Module):
    """A network that answers with the logits that a function makes of the images."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Classified:
        logits = self.logits(images)
        return Classified(logits, {}, {}, logits)


def measured(task: Task, logits: Callable[[Tensor], Tensor], part: Any = "test") -> dict[str, float]:
    return evaluate(Answers(logits), task.evaluation(part, CPU), task.meter(), Compute(CPU))


class TestEveryTask(TaskContract):
    unaugmented: ClassVar[Mapping[str, Any]] = {"padding": 0, "flip": False}

    @pytest.fixture(params=sorted(set(TASKS.names()) - OTHERS))
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make(self, name: str, data: Path) -> Make:
        return lambda **over: made(name, data, **over)

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return CASES[name].flips

    def unseen_of(self, name: str) -> frozenset[str]:
        return CASES[name].unseen

    def unaugmented_of(self, name: str) -> Mapping[str, Any]:
        return {"min_area": 1.0, "max_ratio": 1.0, "flip": False} if name == "imagenet" else self.unaugmented

    def test_its_constructor_reads_nothing(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        where = {"root": "/nowhere/at/all"} if "root" in TASKS.options(name).model_fields else {}
        monkeypatch.setenv("TSKD_TUNE_DATA", "/nowhere/at/all")
        build(name, **{**CASES[name].options, **where})

    def test_accuracies_are_measured(self, make: Make) -> None:
        task = make()
        names = [metric.name for metric in task.facts().metrics]
        assert task.facts().headline.name == "top1"
        assert ("top5" in names) == (task.facts().outputs > 5)

    def test_an_augmentation_moves_pixels(self, make: Make) -> None:
        assert not torch.equal(epoch(make())[0], epoch(make(), augmentation=5)[0])

    def test_training_images_are_normalized(self, name: str, make: Make) -> None:
        constants = dict.fromkeys(("cifar10", "cifar100", "cinic10"), 0.35)  # fixed constants on made-up pixels
        tolerance = {**constants, "imagenet": 0.5}.get(name, 1e-4)
        images = torch.cat(epoch(make(**{**self.unaugmented_of(name), "flip": False}))[0::3]).double()
        assert images.mean((0, 2, 3)).abs().max() < tolerance
        assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < tolerance

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_an_evaluation_of_one_answer_gives_the_share_of_its_class(self, make: Make, part: Any) -> None:
        task = make()
        classes = task.facts().outputs

        def always(label: int) -> Callable[[Tensor], Tensor]:
            logits = torch.nn.functional.one_hot(torch.tensor(label), classes).float()
            return lambda images: logits.expand(len(images), -1)

        counts = torch.bincount(task.evaluation(part, CPU).targets, minlength=classes)
        for label in (0, 1, classes - 1):
            share = 100 * int(counts[label]) / int(counts.sum())
            assert measured(task, always(label), part)["top1"] == pytest.approx(share)

    def test_an_evaluation_of_every_right_answer_is_perfect(self, make: Make) -> None:
        task = make()
        images, classes = evaluated(task, "test"), task.facts().outputs
        targets = task.evaluation("test", CPU).targets.tolist()
        known = {image.numpy().tobytes(): target for image, target in zip(images, targets, strict=True)}

        def remember(seen: Tensor) -> Tensor:
            labels = torch.tensor([known[image.numpy().tobytes()] for image in seen])
            return torch.nn.functional.one_hot(labels, classes).float() * 50

        metrics = measured(task, remember)
        assert metrics["top1"] == metrics["top5"] == 100
        assert metrics["loss"] < 1e-6
