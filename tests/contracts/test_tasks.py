"""Every registered task keeps the promises of `Task`, and every option changes something that can be seen."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Output
from tskd_tune.tasks import TASKS, Task, build, cifar, cinic10
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A small setting of a task, and another value of every option, in a setting where it applies."""

    options: Mapping[str, Any]
    flips: Mapping[str, Mapping[str, Any]]
    bases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()
    """Options that say where the data lies or whether it may be fetched, tested beside their task."""


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
        unseen=frozenset({"root"}),
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


@pytest.fixture(params=TASKS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(name: str, data: Path, **options: Any) -> Task:
    where = {"root": str(data / "folder")} if name == "image_folder" else {}
    return build(name, **{**where, **CASES[name].options, **options})


@dataclass(frozen=True)
class Seeds:
    """Streams whose order and augmentation are seeded apart."""

    order: int = 1
    augmentation: int = 2

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed({"order": self.order, "augmentation": self.augmentation}[purpose])


def batches_of(task: Task, seeds: Seeds | None, start: int = 0) -> list[Batch]:
    feed = task.training(CPU)
    return [feed.batch(draw) for draw in feed.draws(seeds, start)]


def epoch(task: Task, order: int = 1, augmentation: int = 2) -> list[Tensor]:
    return [
        tensor
        for batch in batches_of(task, Seeds(order, augmentation))
        for tensor in (batch.images, batch.targets, batch.indices)
    ]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def evaluated(task: Task, part: str) -> Tensor:
    """Return all images of a part, in the order in which an evaluation shows them."""
    return torch.cat([batch.images for batch in shown(task, part)])


def shown(task: Task, part: Any) -> list[Batch]:
    feed = task.evaluation(part, CPU)
    return [feed.batch(draw) for draw in feed.draws()]


class Answers(nn.Module):
    """A network that answers with the logits that a function makes of the images."""

    def __init__(self, logits: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Output:
        logits = self.logits(images)
        return Output(logits, {}, {}, logits)


def measured(task: Task, logits: Callable[[Tensor], Tensor], part: Any = "test") -> dict[str, float]:
    return evaluate(Answers(logits), task.evaluation(part, CPU), task.meter(), Compute(CPU))


def rows(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_every_task_has_a_case(name: str) -> None:
    assert name in CASES
    assert set(CASES[name].flips) | CASES[name].unseen == set(TASKS.options(name).model_fields) - {"name"}


def test_the_facts_are_what_is_loaded(name: str, data: Path) -> None:
    task = made(name, data)
    facts = task.facts()
    targets = task.training(CPU).targets
    assert targets.shape == (facts.samples[0],)
    assert targets.dtype == torch.int64
    assert sorted(set(targets.tolist())) == list(range(facts.classes))
    for part, samples in (("validation", facts.samples[1]), ("test", facts.samples[2])):
        assert evaluated(task, part).shape == (samples, facts.channels, facts.size, facts.size)
    assert epoch(task)[0].shape[1:] == (facts.channels, facts.size, facts.size)


def test_the_metrics_that_are_declared_are_those_that_are_measured(name: str, data: Path) -> None:
    task = made(name, data)
    names = [metric.name for metric in task.facts().metrics]
    assert task.facts().headline.name == "top1"
    assert list(measured(task, lambda images: torch.zeros(len(images), task.facts().classes))) == names
    assert ("top5" in names) == (task.facts().classes > 5)


def test_a_constructor_reads_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"root": "/nowhere/at/all"} if "root" in TASKS.options(name).model_fields else {}
    monkeypatch.setenv("TSKD_TUNE_DATA", "/nowhere/at/all")
    build(name, **{**CASES[name].options, **where})


def test_an_epoch_shows_every_sample_once_with_its_own_class(name: str, data: Path) -> None:
    task = made(name, data)
    batches = batches_of(task, Seeds())
    indices = torch.cat([batch.indices for batch in batches])
    assert indices.sort().values.tolist() == list(range(task.facts().samples[0]))
    assert torch.equal(torch.cat([batch.targets for batch in batches]), task.training(CPU).targets[indices])
    assert len(batches) == task.steps() == task.training(CPU).steps()
    assert all(batch.images.dtype == torch.float32 for batch in batches)
    assert min(len(batch.images) for batch in batches) > 1


def test_the_same_generators_give_the_same_bits(name: str, data: Path) -> None:
    assert equal(epoch(made(name, data)), epoch(made(name, data)))


def test_an_epoch_can_begin_within_itself(name: str, data: Path) -> None:
    task = made(name, data)
    whole, rest = batches_of(task, Seeds()), batches_of(task, Seeds(), start=2)
    assert len(rest) == len(whole) - 2 > 0
    for mine, theirs in zip(rest, whole[2:], strict=True):
        assert torch.equal(mine.images, theirs.images) and torch.equal(mine.indices, theirs.indices)


def test_without_streams_every_sample_comes_in_order_as_it_is(name: str, data: Path) -> None:
    task = made(name, data)
    plain = batches_of(task, None)
    assert torch.cat([batch.indices for batch in plain]).tolist() == list(range(task.facts().samples[0]))
    bare = batches_of(made(name, data, padding=0, flip=False), None)
    assert all(torch.equal(mine.images, theirs.images) for mine, theirs in zip(plain, bare, strict=True))


def test_another_order_shows_the_same_images_in_another_order(name: str, data: Path) -> None:
    task = made(name, data)
    first, second = epoch(task), epoch(task, order=3)
    assert not torch.equal(first[2], second[2])
    places = [torch.cat(tensors[2::3]).argsort() for tensors in (first, second)]
    images = [torch.cat(tensors[0::3])[place] for tensors, place in zip((first, second), places, strict=True)]
    assert torch.equal(*images)


def test_another_augmentation_shows_the_same_order(name: str, data: Path) -> None:
    task = made(name, data)
    first, second = epoch(task), epoch(task, augmentation=5)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[2], second[2])


def test_training_images_are_normalized(name: str, data: Path) -> None:
    constants = dict.fromkeys(("cifar10", "cifar100", "cinic10"), 0.35)  # fixed constants on made-up pixels
    tolerance = constants.get(name, 1e-4)
    images = torch.cat(epoch(made(name, data, padding=0))[0::3]).double()
    assert images.mean((0, 2, 3)).abs().max() < tolerance
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < tolerance


def test_the_parts_share_no_image(name: str, data: Path) -> None:
    task = made(name, data, padding=0, flip=False)
    training = rows(torch.cat(epoch(task)[0::3]))
    validation, test = rows(evaluated(task, "validation")), rows(evaluated(task, "test"))
    assert len(training) == task.facts().samples[0]
    assert training.isdisjoint(validation)
    assert training.isdisjoint(test)
    assert validation.isdisjoint(test)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_an_evaluation_of_one_answer_gives_the_share_of_its_class(name: str, data: Path, part: Any) -> None:
    task = made(name, data)
    classes = task.facts().classes

    def always(label: int) -> Callable[[Tensor], Tensor]:
        logits = torch.nn.functional.one_hot(torch.tensor(label), classes).float()
        return lambda images: logits.expand(len(images), -1)

    counts = torch.bincount(task.evaluation(part, CPU).targets, minlength=classes)
    for label in (0, 1, classes - 1):
        share = 100 * int(counts[label]) / int(counts.sum())
        assert measured(task, always(label), part)["top1"] == pytest.approx(share)


def test_an_evaluation_of_every_right_answer_is_perfect(name: str, data: Path) -> None:
    task = made(name, data)
    images, classes = evaluated(task, "test"), task.facts().classes
    targets = task.evaluation("test", CPU).targets.tolist()
    known = {image.numpy().tobytes(): target for image, target in zip(images, targets, strict=True)}

    def remember(seen: Tensor) -> Tensor:
        labels = torch.tensor([known[image.numpy().tobytes()] for image in seen])
        return torch.nn.functional.one_hot(labels, classes).float() * 50

    metrics = measured(task, remember)
    assert metrics["top1"] == metrics["top5"] == 100
    assert metrics["loss"] < 1e-6


def shown_targets(task: Task, part: Any) -> Tensor:
    return torch.cat([batch.targets for batch in shown(task, part)])


def observed(task: Task) -> list[Tensor]:
    parts = [evaluated(task, part) for part in ("validation", "test")]
    return [*epoch(task), *parts]


def test_every_option_changes_what_is_seen(name: str, data: Path) -> None:
    plain = observed(made(name, data))
    for option, other in CASES[name].flips.items():
        assert not equal(observed(made(name, data, **other)), plain), option


def test_the_fingerprint_changes_with_what_is_seen_but_for_the_batch_size(name: str, data: Path) -> None:
    plain = made(name, data).fingerprint()
    assert made(name, data).fingerprint() == plain
    for option, other in CASES[name].flips.items():
        changed = made(name, data, **other).fingerprint() != plain
        assert changed == (option != "batch_size"), option


def test_the_summary_is_what_is_loaded(name: str, data: Path) -> None:
    task = made(name, data)
    found = task.summary()
    loaded = [task.training(CPU).targets, *(shown_targets(task, part) for part in ("validation", "test"))]
    assert found.samples == tuple(len(targets) for targets in loaded)
    assert len(found.classes) == task.facts().classes
    if found.counts is not None:
        assert list(found.counts) == torch.bincount(torch.cat(loaded), minlength=len(found.classes)).tolist()
    assert "\n".join(found.lines()).isascii()
    assert json.loads(json.dumps(found.plain()))["parts"]["training"]["images"] == found.samples[0]


def test_sound_data_is_verified_without_a_word(name: str, data: Path) -> None:
    assert list(made(name, data).verify()) == []
