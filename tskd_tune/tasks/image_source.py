"""Sources of images: all images of a part in memory, or one after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tskd_tune.tasks.base import Samples, Source
from tskd_tune.tasks.images import Normalization

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
        """Read all images once; see `Source.verify`."""
        self.read()
        return ()
