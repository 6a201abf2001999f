"""Photographs for the suite ``loader``: random crops of JPEG files, beside torchvision's own transforms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, io, transforms
from torchvision.transforms import functional

from benchmarks.clocks import Phases, Timed, interleaved, now, since
from benchmarks.environment import name_of
from benchmarks.exactness import Limits, judged
from benchmarks.rows import Row, Spent
from benchmarks.workload import SEED
from tskd_tune.tasks import build
from tskd_tune.tasks.base import AUGMENTATION, Feed, Task
from tskd_tune.tasks.cuts import SEEDS, MiddleCut, ResizedCut
from tskd_tune.tasks.file_samples import FileSamples
from tskd_tune.tasks.image_files import found_file
from tskd_tune.tasks.images import IMAGENET
from tskd_tune.training.streams import Streams

IMAGES = "1000 images"
SIZE, BATCH = 224, 64
SIZES = {"500 x 375": (500, 375), "1600 x 1200": (1600, 1200)}
"""Width and height: near the mean of ImageNet's files, and that of a camera."""
COUNTS = {"500 x 375": 512, "1600 x 1200": 32}
WORKERS = 2
OURS = "the task imagenet"
Crop = Callable[[Path, int], object]
"""Makes a crop of a file from a seed."""


def rows(device: torch.device, *, quick: bool) -> list[Row]:
    """Measure the task beside a plain ``DataLoader``, and ways of making one crop beside one another.

    Raises:
        ExactnessError: a crop has other bits than torchvision's.
    """
    with TemporaryDirectory() as folder:
        files = {name: written(Path(folder), name, COUNTS[name] // (8 if quick else 1)) for name in SIZES}
        repeats = 3 if quick else 7
        loaders = of_loaders(Path(folder) / "500 x 375", device, repeats)
        return [loaders, *itertools.chain(*(of_crops(name, files[name], repeats) for name in SIZES))]


def written(folder: Path, name: str, count: int) -> list[Path]:
    """Write JPEG files of one size in ImageNet's layout, smooth pictures with noise: about 90 kB at 500 x 375."""
    width, height = SIZES[name]
    stream, files = np.random.default_rng(SEED), []
    for part, number in [*(("train", number) for number in range(count)), ("val", 0), ("val", 1)]:
        path = folder / name / part / f"n0000000{number % 2}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(stream.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(coarse) + stream.normal(0, 10, (height, width, 1))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        files += [path] if part == "train" else []
    return files


def of_loaders(root: Path, device: torch.device, repeats: int) -> Row:
    """Compare the task with torchvision's ``ImageFolder`` in a ``DataLoader``, with as many workers."""
    task = build("imagenet", root=str(root), size=SIZE, batch_size=BATCH, workers=WORKERS)
    compared = "the bits of all crops of an epoch, and torchvision's of the same random numbers"
    found = judged(OURS, Limits(0.0, largest_difference(task, root)), "bitwise", compared)
    samples = task.facts().samples[0]
    ours = Streamed(task.training(device), device, samples)
    timed = interleaved({OURS: ours, "DataLoader": Plain.of(root, device, samples)}, repeats)
    row = _row(
        f"{SIZE} pixels of JPEG files of {root.name}, {WORKERS} workers, against a plain DataLoader", timed, OURS
    )
    return replace(
        row, device=name_of(device), compared=found.compared, clock="wall" if device.type == "cuda" else "cpu"
    )


def largest_difference(task: Task, root: Path) -> float:
    """Return the largest difference of an epoch's images from those of torchvision's transforms; 0: all bits."""
    theirs, files, streams = _transform(), datasets.ImageFolder(str(root / "train")), Streams(SEED)
    seeds = torch.randint(0, SEEDS, (len(files), 1), generator=streams.generator(AUGMENTATION))
    feed, largest = task.training(torch.device("cpu")), 0.0
    with torch.random.fork_rng(devices=[]):
        for draw in feed.draws(Streams(SEED)):
            batch = feed.batch(draw)
            for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
                torch.manual_seed(int(seeds[index]))
                largest = max(largest, float((image - theirs(files[index][0])).abs().max()))
    return largest


def of_crops(name: str, files: Sequence[Path], repeats: int) -> Iterator[Row]:
    """Compare ways of making one crop of a file, in this process alone."""
    ways: dict[str, Crop] = {
        OURS: ours_of(files),
        "torchvision.io": by_torchvision,
        "PIL at a smaller scale": by_draft,
        "torchvision's transforms on PIL": by_transforms,
    }
    timed = interleaved({way: Alone(make, files) for way, make in ways.items()}, repeats)
    for way in ways:
        if way != OURS:
            row = _row(f"one crop of {name}, against {way}", {OURS: timed[OURS], way: timed[way]}, OURS)
            yield row if way == "torchvision's transforms on PIL" else replace(row, exactness="changes results")


def ours_of(files: Sequence[Path]) -> Crop:
    """Return the package's way."""
    samples = FileSamples([found_file(str(path), 0) for path in files], SIZE)
    cut = ResizedCut(MiddleCut(256, SIZE), (0.08, 1.0), (3 / 4, 4 / 3), flip=True)
    places = {path: place for place, path in enumerate(files)}
    return lambda path, seed: cut.of(samples, places[path], (seed,))


def by_transforms(path: Path, seed: int) -> Tensor:
    """Crop as torchvision's reference scripts do."""
    torch.default_generator.manual_seed(seed)
    with path.open("rb") as file:
        image = Image.open(file).convert("RGB")
    crop: Tensor = _transform()(image)
    return crop


def by_torchvision(path: Path, seed: int) -> Tensor:
    """Decode by torchvision's own decoder, and crop and scale the tensor."""
    torch.default_generator.manual_seed(seed)
    image = io.decode_jpeg(io.read_file(str(path)), mode=io.ImageReadMode.RGB)
    place = _place(image)
    crop: Tensor = functional.resized_crop(image, *place, [SIZE, SIZE], antialias=True)
    return functional.hflip(crop) if torch.rand(1) < 0.5 else crop


def by_draft(path: Path, seed: int) -> Tensor:
    """Decode at a half, a quarter or an eighth where the crop is still large enough; the pixels are others."""
    torch.default_generator.manual_seed(seed)
    with Image.open(path) as image:
        width, height = image.size
        row, column, rows_, columns = _place(image)
        image.draft("RGB", (int(width * SIZE / columns), int(height * SIZE / rows_)))
        scale = image.width / width
        box = (column * scale, row * scale, (column + columns) * scale, (row + rows_) * scale)
        part = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box)
    crop = torch.from_numpy(np.asarray(part).transpose(2, 0, 1).copy())
    return crop.flip(2) if torch.rand(1) < 0.5 else crop


@dataclass(frozen=True)
class Alone:
    """One way of making crops, in this process."""

    crop: Crop
    files: Sequence[Path]

    def prepare(self) -> None:
        """Make some crops."""
        for path in self.files[:4]:
            self.crop(path, 1)

    def run(self) -> Phases:
        """Make a crop of every file, and return the time of 1000."""
        with _left_alone():
            start = now()
            for seed, path in enumerate(self.files):
                self.crop(path, seed)
            return {IMAGES: since(start) * (1000 / len(self.files))}


@dataclass(frozen=True)
class Streamed:
    """The package's feed."""

    feed: Feed
    device: torch.device
    images: int
    epochs: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self) -> None:
        """Start the workers, and make every batch once."""
        self.run()

    def run(self) -> Phases:
        """Make every batch of an epoch, and return the time of 1000 images."""
        return _timed(lambda: (self.feed.batch(d) for d in self.feed.draws(Streams(SEED, next(self.epochs)))), self)


@dataclass(frozen=True)
class Plain:
    """torchvision's ``ImageFolder`` and transforms in a ``DataLoader``, with the copy to the device."""

    loader: Any
    device: torch.device
    images: int

    @classmethod
    def of(cls, root: Path, device: torch.device, images: int) -> Plain:
        """Load the images of a folder as torchvision's reference scripts do."""
        loader: Any = DataLoader(
            datasets.ImageFolder(str(root / "train"), _transform()),
            batch_size=BATCH,
            shuffle=True,
            num_workers=WORKERS,
            pin_memory=device.type == "cuda",
            persistent_workers=True,
        )
        return cls(loader, device, images)

    def prepare(self) -> None:
        """Start the workers, and load every batch once."""
        self.run()

    def run(self) -> Phases:
        """Load every batch of an epoch, and return the time of 1000 images."""
        return _timed(lambda: (images.to(self.device, non_blocking=True) for images, _ in self.loader), self)


def _timed(epoch: Callable[[], Iterator[object]], of: Streamed | Plain) -> Phases:
    """Return the time of 1000 images, with the CPU seconds of all worker processes."""
    start, before = now(), _of_workers()
    for _ in epoch():
        pass
    if of.device.type == "cuda":
        torch.cuda.synchronize()
    return {IMAGES: (since(start) + Spent(0.0, _of_workers() - before)) * (1000 / of.images)}


def _of_workers() -> float:
    """Return the CPU seconds of the processes that this one started and that are alive."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    return float(sum(time.user + time.system for time in times))


def _transform() -> Callable[[Image.Image], Tensor]:
    transform: Callable[[Image.Image], Tensor] = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET.mean, IMAGENET.std),
        ]
    )
    return transform


def _place(image: Tensor | Image.Image) -> tuple[int, int, int, int]:
    place: tuple[int, int, int, int] = transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
    return place


@contextmanager
def _left_alone() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def _row(name: str, timed: Mapping[str, Timed], ours: str) -> Row:
    (other,) = set(timed) - {ours}
    row = Row(
        suite="loader",
        name=name,
        device="cpu",
        precision="bytes",
        layout="NCHW",
        unit=IMAGES,
        clock="cpu",
        ours=timed[ours].median(IMAGES),
        reference=timed[other].median(IMAGES),
        exactness="bitwise",
        compared="the way of making a crop",
        prepare_seconds=timed[ours].prepare_seconds,
        repeats=timed[ours].pairs(IMAGES, timed[other]),
    )
    rates = {"images_per_second": 1000 / row.ours.wall, "reference_images_per_second": 1000 / row.reference.wall}
    return replace(row, more=rates)
