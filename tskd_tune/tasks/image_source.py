"""Sources of images: all images of a part in memory, or one after the other."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tskd_tune.tasks.base import Samples, Source
from tskd_tune.tasks.doubles import BY_PIXELS
from tskd_tune.tasks.images import Normalization
from tskd_tune.tasks.words import counted

DataPart: TypeAlias = Literal["training", "validation", "test"]


@dataclass(frozen=True)
class Labeled:
    """Images ``[N, C, H, W]`` (bytes) and their classes ``[N]`` (int64), on the CPU."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of images, N."""
        return len(self.targets)

    def __getitem__(self, index: int) -> Tensor:
        """Return one image ``[C, H, W]``."""
        return self.images[index]

    def at(self, indices: ArrayLike | range) -> Labeled:
        """Return the samples of these indices ``[M]``."""
        where = torch.as_tensor(indices)
        return Labeled(self.images[where], self.targets[where])


@dataclass(frozen=True)
class ImageParts:
    """The three sets of a data set, and the normalization of their pixels."""

    training: Labeled
    validation: Labeled
    test: Labeled
    normalization: Normalization


def same_pixels(parts: ImageParts) -> list[str]:
    """Return a sentence for every two sets that share images with the same pixels, with the first pair.

    60,000 images of CIFAR's size take a fraction of a second.
    """
    sets = {"training": parts.training, "validation": parts.validation, "test": parts.test}
    digests = {name: _of_pixels(images) for name, images in sets.items()}
    sentences = []
    for (first, ones), (second, others) in combinations(digests.items(), 2):
        seen = {digest: place for place, digest in reversed(list(enumerate(ones)))}
        pairs = [(seen[digest], place) for place, digest in enumerate(others) if digest in seen]
        if pairs:
            one, other = pairs[0]
            classes = " with another class" if sets[first].targets[one] != sets[second].targets[other] else ""
            sentences.append(
                f"task: the {first} set holds {len(pairs)} of the {counted(len(others), f'{second} image')} too"
                f"{BY_PIXELS}such as no. {other}, which is no. {one} of the {first} set{classes}; a metric of the"
                f" {second} set is then too good"
            )
    return sentences


def _of_pixels(images: Labeled) -> list[bytes]:
    pixels = np.ascontiguousarray(images.images.numpy())
    return [hashlib.blake2b(one.data, digest_size=16).digest() for one in pixels]


class ImageSource(Source):
    """Where images come from, and how they are split; a source defines `facts`, `read` and `identity`."""

    @abstractmethod
    def read(self) -> ImageParts:
        """Read and split the images.

        Raises:
            InputError: an image cannot be read, or a library is missing.
            RunError: a file vanished since ``facts``, or a download failed.
        """

    def samples(self, part: DataPart) -> Samples:
        """Return the samples of one part, which a source of many files reads one after another; raises as `read`."""
        parts = self.read()
        return {"training": parts.training, "validation": parts.validation, "test": parts.test}[part]

    def normalization(self) -> Normalization:
        """Return the normalization of the pixels; raises as `read`."""
        return self.read().normalization

    def verify(self) -> Sequence[str]:
        """Read all images once, and say where two sets share images; see `Source.verify`."""
        return same_pixels(self.read())
