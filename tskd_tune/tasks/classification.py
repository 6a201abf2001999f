"""Image classification: a source of images, an augmentation and a batch size make a task."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch, Output, exact
from tskd_tune.errors import InputError, RunError
from tskd_tune.metrics import PERCENT, Metric, Part
from tskd_tune.tasks.base import Task, TaskFacts, summary_of
from tskd_tune.tasks.images import Augmentation, Normalization, ResidentImages, batch_count
from tskd_tune.tasks.summary import DataSummary

TOP1 = Metric("top1", "top-1", PERCENT, "max")
TOP5 = Metric("top5", "top-5", PERCENT, "max")
LOSS = Metric("loss", "loss", "", "min", digits=4)


@dataclass(frozen=True)
class Labeled:
    """Images ``[N, C, H, W]`` (bytes) and their classes ``[N]`` (int64), on the CPU."""

    images: Tensor
    targets: Tensor

    def at(self, indices: Any) -> Labeled:
        """Return the samples of these indices ``[M]``."""
        where = torch.as_tensor(indices)
        return Labeled(self.images[where], self.targets[where])


@dataclass(frozen=True)
class ImageParts:
    """The three parts of a data set, split for good, and how their pixels are normalized."""

    training: Labeled
    validation: Labeled
    test: Labeled
    normalization: Normalization


class ImageSource(ABC):
    """Where images come from, and how they are split."""

    @abstractmethod
    def facts(self) -> TaskFacts:
        """Look at the data without reading an image; see `Task.facts`."""

    @abstractmethod
    def read(self) -> ImageParts:
        """Read and split the images.

        Raises:
            InputError: an image cannot be read, or a library is missing.
            RunError: a file vanished since ``facts``, or a download failed.
        """

    def summary(self) -> DataSummary:
        """Tell what the data is taken for; see `Task.summary`."""
        return summary_of(self.facts())

    def verify(self) -> Sequence[str]:
        """Read all images once, and tell what is odd about them; see `Task.verify`."""
        self.read()
        return ()

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return plain data that differs where the images, their split or their normalization do."""


class Classification(Task):
    """Images to classify: cross-entropy, top-1 and top-5 accuracy."""

    def __init__(self, source: ImageSource, augmentation: Augmentation, batch_size: int) -> None:
        """Make a task of a source; nothing is read yet."""
        self._source = source
        self._augmentation = augmentation
        self._batch_size = batch_size
        self._parts: dict[str, ResidentImages] = {}
        self._device: torch.device | None = None
        self._oddities: tuple[str, ...] | None = None

    def facts(self) -> TaskFacts:
        """Look at the data without loading it; top-5 is measured where there are more than five classes."""
        facts = self._source.facts()
        return replace(facts, metrics=(TOP1, TOP5, LOSS) if facts.classes > 5 else (TOP1, LOSS))

    def summary(self) -> DataSummary:
        """Tell what the data is taken for."""
        return self._source.summary()

    def verify(self) -> Sequence[str]:
        """Read all images, and tell what is odd about them; a second call is free."""
        if self._oddities is None:
            self._oddities = tuple(self._source.verify())
        return self._oddities

    def load(self, device: torch.device) -> None:
        """Read the images and keep them on the device; a second call for the same device is free."""
        if device == self._device:
            return
        parts = self._source.read()
        constants = parts.normalization
        training = parts.training
        self._parts = {
            "training": ResidentImages(
                training.images, training.targets, constants, padding=self._augmentation.padding, device=device
            ),
            "validation": ResidentImages(parts.validation.images, parts.validation.targets, constants, device=device),
            "test": ResidentImages(parts.test.images, parts.test.targets, constants, device=device),
        }
        self._device = device

    def fingerprint(self) -> str:
        """Return a digest of the data, the split and the augmentation.

        The batch size is not in it: it belongs to the recipe of a training, which its cache keys hold beside this.
        """
        content = {"source": self._source.identity(), "augmentation": asdict(self._augmentation)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def targets(self) -> Tensor:
        """The class of every training sample ``[N]``, in the order of the sample indices, on the device."""
        return self._loaded("training").targets

    def train_batches(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        """Iterate over the shuffled, augmented training part once; both generators live on the CPU."""
        training = self._loaded("training")
        return training.train_batches(order, augmentation, self._augmentation, self._batch_size)

    def train_steps(self) -> int:
        """Return the number of batches of one epoch."""
        return batch_count(self.facts().samples[0], self._batch_size)

    def criterion(self, student: Output, batch: Batch) -> Tensor:
        """Return the cross-entropy of the logits, the mean over the batch, in float32 at least."""
        return F.cross_entropy(exact(student.logits), batch.targets)

    @torch.no_grad()
    def evaluate(self, forward: Callable[[Tensor], Output], part: Part) -> Mapping[str, float]:
        """Return ``{"top1", "top5", "loss"}`` of a part: percent, percent and the mean cross-entropy.

        ``top5`` is left out where there are five classes or fewer, because it would always be 100. Everything is
        summed on the device and fetched once. Putting the network into eval mode is the caller's affair.

        Raises:
            InputError: the part has no images.
        """
        images = self._loaded(part)
        if len(images) == 0:
            raise InputError(f"task: there is no {part} part to evaluate; set task.{part} above 0")
        sums = torch.stack([self._sums(forward(b.images).logits, b.targets) for b in images.evaluation_batches()])
        top1, top5, loss = (sums.sum(0) / len(images)).tolist()
        values = {TOP1.name: 100 * top1, TOP5.name: 100 * top5, LOSS.name: loss}
        return {metric.name: values[metric.name] for metric in self.facts().metrics}

    @staticmethod
    def _sums(logits: Tensor, targets: Tensor) -> Tensor:
        """Return how many of ``[B, classes]`` are right at first, right among five, and the sum of the losses."""
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets.unsqueeze(1)
        losses = F.cross_entropy(exact(logits), targets, reduction="none").double()
        return torch.stack([best[:, 0].sum().double(), best.sum().double(), losses.sum()])

    def _loaded(self, part: str) -> ResidentImages:
        if part not in self._parts:
            raise RunError(f"task: the {part} part is not loaded; call load(device) first")
        return self._parts[part]
