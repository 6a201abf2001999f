"""Made-up images that can be learned in seconds: for tests and trials of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.plain import Json
from tskd_tune.tasks.base import TASKS, Task, TaskFacts, summary_of
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.image_source import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.options import BatchSize, Flip, Padding
from tskd_tune.tasks.resident import Resident
from tskd_tune.tasks.summary import DataSummary

COARSE = 4
CONTRAST = 40.0


@TASKS.register("synthetic", source="made up: one coarse pattern a class, with Gaussian noise")
def synthetic(
    *,
    batch_size: BatchSize = 16,
    classes: Annotated[int, Field(ge=2)] = 4,
    channels: PositiveInt = 3,
    size: PositiveInt = 16,
    train: PositiveInt = 64,
    validation: NonNegativeInt = 0,
    test: PositiveInt = 32,
    noise: Annotated[float, Field(ge=0)] = 30.0,
    data_seed: NonNegativeInt = 0,
    padding: Padding = 1,
    flip: Flip = False,
) -> Task:
    """Images of a random pattern a class with noise, made from a seed; nothing is read from disk.

    Args:
        classes: number of classes, each with a pattern of its own.
        channels: channels of an image.
        size: height and width of an image, in pixels.
        train: number of training images, the same of each class as far as possible; at least one of each.
        validation: number of additional validation images.
        test: number of additional test images.
        noise: standard deviation of the noise, in gray levels from 0 to 255; that of the patterns is 40.
        data_seed: seed of the patterns and of the noise.
    """
    source = SyntheticImages(
        classes=classes,
        shape=(channels, size, size),
        samples=(train, validation, test),
        noise=noise,
        seed=data_seed,
    )
    return Task(source, Classification(), Resident(Augmentation(padding, flip), batch_size))


class SyntheticImages(ImageSource):
    """One random coarse pattern a class, and noise of its own for every image."""

    def __init__(
        self,
        *,
        classes: int,
        shape: tuple[int, int, int],
        samples: tuple[int, int, int],
        noise: float,
        seed: int,
    ) -> None:
        """Take the shape ``(C, H, W)`` and the sizes of the training, validation and test part."""
        self._classes = classes
        self._shape = shape
        self._samples = samples
        self._noise = noise
        self._seed = seed

    def facts(self) -> TaskFacts:
        """Return the facts that the options give."""
        train = self._samples[0]
        if train < self._classes:
            raise InputError(
                f"task.train: {train} images cannot hold one of each of {self._classes} classes; "
                f"give at least {self._classes}"
            )
        return TaskFacts(self._shape, self._classes, self._samples)

    def summary(self) -> DataSummary:
        """Return the facts that the options give."""
        return summary_of(self.facts(), "synthetic images, made from task.data_seed")

    def read(self) -> ImageParts:
        """Make the images."""
        self.facts()
        generator = torch.Generator().manual_seed(self._seed)
        coarse = torch.randn(self._classes, self._shape[0], COARSE, COARSE, generator=generator)
        patterns = F.interpolate(coarse, size=self._shape[1:], mode="nearest") * CONTRAST
        training, validation, test = (self._part(patterns, count, generator) for count in self._samples)
        return ImageParts(training, validation, test, Normalization.of(training.images))

    def identity(self) -> Mapping[str, Json]:
        """Return everything that the images are made from."""
        return {
            "data": "synthetic",
            "classes": self._classes,
            "shape": self._shape,
            "samples": self._samples,
            "noise": self._noise,
            "seed": self._seed,
        }

    def _part(self, patterns: Tensor, count: int, generator: torch.Generator) -> Labeled:
        targets = torch.arange(count) % self._classes
        noise = torch.randn(count, *self._shape, generator=generator) * self._noise
        images = (128 + patterns[targets] + noise).round().clamp(0, 255).to(torch.uint8)
        return Labeled(images, targets)
