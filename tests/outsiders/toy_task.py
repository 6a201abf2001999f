"""A task of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from pydantic import PositiveInt

from tskd_tune.tasks import Task, TaskFacts
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.image_source import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.resident import Resident

PARTS = (0, 64, 80, 112)


class Stripes(ImageSource):
    """Noise with stripes, across or down: two classes, gray images of 8 x 8 pixels."""

    def __init__(self, strength: int) -> None:
        """Take by how many gray levels a stripe is lighter than the noise."""
        self._strength = strength

    def facts(self) -> TaskFacts:
        """Return the shapes and counts."""
        return TaskFacts(inputs=(1, 8, 8), outputs=2, samples=(64, 16, 32))

    def read(self) -> ImageParts:
        """Make the images."""
        images = torch.randint(0, 128, (PARTS[-1], 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        targets = torch.arange(PARTS[-1]) % 2
        images[targets == 0, :, ::2] += self._strength
        images[targets == 1, :, :, ::2] += self._strength
        labeled = Labeled(images, targets)
        parts = [labeled.at(range(*ends)) for ends in pairwise(PARTS)]
        return ImageParts(*parts, Normalization.of(parts[0].images))

    def identity(self) -> Mapping[str, str | int]:
        """Return what the images are made from."""
        return {"data": "stripes", "strength": self._strength}


def stripes(*, batch_size: PositiveInt = 16, strength: PositiveInt = 64) -> Task:
    """Stripes, across or down.

    Args:
        batch_size: images in a training batch.
        strength: gray levels by which a stripe is lighter than the noise.
    """
    return Task(Stripes(strength), Classification(), Resident(Augmentation(padding=1, flip=False), batch_size))
