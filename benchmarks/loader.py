"""The suite ``loader``: augmented images per second, beside a ``DataLoader`` that augments PIL images one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
import torchvision.transforms.functional as pictures
from PIL import Image
from torch import Tensor

from benchmarks import photographs
from benchmarks.clocks import Contender, Phases, interleaved, now, since
from benchmarks.environment import name_of
from benchmarks.exactness import Limits, judged
from benchmarks.floor import ceilings
from benchmarks.reference import PADDING, Images
from benchmarks.rows import Goal, Report, Row, Spent
from benchmarks.workload import SEED, Variant, Workload
from tskd_tune.tasks.base import AUGMENTATION, Feed
from tskd_tune.tasks.image_source import ImageParts
from tskd_tune.tasks.images import Augmentation, Crops
from tskd_tune.training.streams import Streams

OURS, IMAGES = "resident", "1000 images"
WORKERS = {"cpu": (0, 2), "cuda": (0, 8)}
COMPARED = 256
IMAGES_PER_SECOND = 200_000
BYTES_READ, BYTES_WRITTEN = 1, 4


@dataclass(frozen=True)
class Resident:
    """The package's feed: the images stay on the device as bytes."""

    feed: Feed
    device: torch.device
    images: int
    epoch: int = 0

    def prepare(self) -> None:
        """Make every batch once."""
        self.run()

    def run(self) -> Phases:
        """Make every batch of an epoch, and return the time of 1000 images."""
        start = now()
        for draw in self.feed.draws(Streams(SEED, self.epoch)):
            self.feed.batch(draw)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return {IMAGES: since(start) * (1000 / self.images)}


@dataclass(frozen=True)
class Pictures:
    """The reference's ``DataLoader``, with the copy to the device."""

    images: Images
    batch_size: int
    batches: int
    workers: int
    device: torch.device

    def prepare(self) -> None:
        """Load some batches."""
        self._load(2)

    def run(self) -> Phases:
        """Load so many batches after the first, and return the time of 1000 images."""
        return {IMAGES: self._load(self.batches) * (1000 / (self.batches * self.batch_size))}

    def _load(self, batches: int) -> Spent:
        loader = iter(self.images.loader(self.batch_size, batches + 1, self.workers, self.device))
        next(loader)  # outside of the clock, as workers need time to start
        start, beside = now(), 0.0
        for images, targets, _, seconds in loader:
            images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
            beside += seconds if self.workers else 0.0
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return since(start) + Spent(0.0, beside)


def run(device: torch.device, *, quick: bool) -> Report:
    """Measure the suite.

    Raises:
        ExactnessError: a crop has other bits than torchvision's.
    """
    workload = Workload(general=40 if quick else 160)
    trainer = workload.trainer(Variant(""), device)
    images = workload.general * workload.batch_size
    difference = largest_difference(trainer.feed, workload.parts())
    compared = f"the bits of {COMPARED} augmented images, and torchvision's with the same offsets"
    found = judged(OURS, Limits(0.0, difference), "bitwise", compared)
    contenders: dict[str, Contender] = {OURS: Resident(trainer.feed, device, images)}
    for workers in WORKERS[device.type]:
        batches = workload.general // 4
        name = f"PIL DataLoader, {workers} workers"
        contenders[name] = Pictures(workload.images(), workload.batch_size, batches, workers, device)
    timed = interleaved(contenders, 3 if quick else 7)
    here = ceilings(device)
    values = 1000 * 3 * 32 * 32
    row = Row(
        suite="loader",
        name="",
        device=name_of(device),
        precision="float32",
        layout="NCHW",
        unit=IMAGES,
        clock="cpu" if device.type == "cpu" else "wall",
        ours=timed[OURS].median(IMAGES),
        reference=Spent(0.0, 0.0),
        exactness=found.exactness,
        compared=found.compared,
        difference=found.difference,
        prepare_seconds=timed[OURS].prepare_seconds,
        floor_seconds=values * (BYTES_READ + BYTES_WRITTEN) / here.bytes,
    )
    rate = 1000 / row.ours.by(row.clock)
    goal = Goal("images a second and CPU core", rate, IMAGES_PER_SECOND, at_least=True)
    rows = [
        replace(
            row,
            name=f"resident images, against {name}",
            reference=timed[name].median(IMAGES),
            repeats=timed[OURS].pairs(IMAGES, timed[name]),
            more=_rates(row, timed[name].median(IMAGES)),
            goals=(goal,) if device.type == "cpu" else (),
        )
        for name in contenders
        if name != OURS
    ]
    return Report((*rows, *photographs.rows(device, quick=quick)), notes=(str(here),))


def largest_difference(feed: Feed, parts: ImageParts) -> float:
    """Return the largest difference of augmented images from torchvision's with the same offsets; 0: all bits."""
    streams, samples = Streams(SEED), len(parts.training.targets)
    crops = Augmentation(PADDING, True).draw(samples, streams.generator(AUGMENTATION))
    largest, compared = 0.0, 0
    for draw in feed.draws(streams):
        batch = feed.batch(draw)
        for ours, index in zip(batch.images.cpu(), batch.indices.tolist(), strict=True):
            theirs = cut(parts, crops, index)
            same = torch.equal(ours, theirs)
            largest = largest if same else max(largest, float((ours - theirs).abs().max()), 1e-300)
            compared += 1
            if compared == COMPARED:
                return largest
    return largest


def cut(parts: ImageParts, crops: Crops, index: int) -> Tensor:
    """Augment one image with torchvision's functions."""
    pixels = parts.training.images[index]
    height, width = pixels.shape[1:]
    padded = pictures.pad(Image.fromarray(pixels.permute(1, 2, 0).numpy()), [PADDING])
    cropped = pictures.crop(padded, int(crops.rows[index]), int(crops.columns[index]), height, width)
    turned = pictures.hflip(cropped) if int(crops.flips[index]) else cropped
    normalization = parts.normalization
    mean, std = list(normalization.mean), list(normalization.std)
    return cast("Tensor", pictures.normalize(pictures.to_tensor(turned), mean, std))


def _rates(row: Row, reference: Spent) -> Mapping[str, float]:
    return {
        "images_per_second": 1000 / row.ours.by(row.clock),
        "reference_images_per_second": 1000 / reference.by(row.clock),
    }
