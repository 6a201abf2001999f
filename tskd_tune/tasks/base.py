"""What a task is: data, what is learned from the data, and how the data reach the device.

A `Source` knows where samples are and how they are split. An `Objective` turns what a network computes into losses and
metrics. A `Feeding` opens `Feed`s, which give a training its batches. A `Task` composes the three.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, Protocol, TypeVar, final

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Out, Output
from tskd_tune.errors import InputError, shown
from tskd_tune.metrics import Metric, Part
from tskd_tune.plain import Json
from tskd_tune.registry import Registry
from tskd_tune.tasks.facts import TaskFacts as TaskFacts  # noqa: PLC0414 (it is imported from here)
from tskd_tune.tasks.facts import declared_metrics
from tskd_tune.tasks.summary import DataSummary

Out_contra = TypeVar("Out_contra", bound=Output, contravariant=True)

ORDER, AUGMENTATION = "order", "augmentation"
"""The purposes for which a feed asks for random numbers."""

PLACES: dict[Part, int] = {"validation": 1, "test": 2}
"""Where the sample count of each evaluated part stands in `TaskFacts.samples`."""


class Samples(Protocol):
    """The samples of one part by index; worker processes get a copy of them, so that they hold little."""

    @property
    def targets(self) -> Tensor:
        """The target of each sample, on the CPU: for classification the classes ``[N]``."""

    def __len__(self) -> int:
        """Return the number of samples, N."""

    def __getitem__(self, index: int, /) -> Tensor:
        """Return one sample as stored: the bytes ``[C, H, W]`` of an image."""


class Source(ABC):
    """Where samples come from, and how they are split into a training, a validation and a test set by a fixed seed."""

    @abstractmethod
    def facts(self) -> TaskFacts:
        """Look at the data without loading the samples.

        Raises:
            InputError: the data are missing, or a class has too few images for the split.
        """

    @abstractmethod
    def identity(self) -> Mapping[str, Json]:
        """Return plain data that differ where the samples, their split or their normalization differ.

        Cached teachers are found by this identity.
        """

    def location(self) -> str:
        """Return a text that tells apart two sources of one identity in a process, such as two copies of a folder."""
        return ""

    def summary(self) -> DataSummary:
        """Return how the data are understood: classes, sizes, and the files that are left out.

        Raises:
            InputError: see `facts`.
        """
        return summary_of(self.facts())

    @abstractmethod
    def verify(self) -> Sequence[str]:
        """Read all data once, before any training, and return one sentence for each oddity.

        Raises:
            InputError: data are damaged; the message counts the damaged samples and names the first.
            RunError: a download failed, or a file vanished.
        """


class Meter(Protocol[Out_contra]):
    """Collects what a network computes from the batches of one part, and then computes the metrics."""

    def update(self, output: Out_contra, batch: AnyBatch) -> None:
        """Add one batch; nothing waits for the device.

        Args:
            output: what the network computed from the batch.
            batch: images ``[B, channels, H, W]`` with their targets.
        """

    def compute(self) -> dict[str, float]:
        """Return the value of each metric of the part, by the name of the metric."""


class Objective(ABC, Generic[Out_contra]):
    """What is learned: the losses of a batch, and the metrics of a part.

    Attributes:
        capturable: whether `losses` does the same operations in every step and never waits for the device, so that one
            captured CUDA graph can stand for all these steps.
    """

    capturable: bool = True

    @abstractmethod
    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return the metrics of a source with these facts, the headline first."""

    @abstractmethod
    def losses(self, output: Out_contra, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the losses of a batch by name: scalars, each the mean over the batch.

        Histories show each as ``loss_<name>``. Call the loss ``task`` where there is only one, as all shipped tasks do.

        Args:
            output: what the student computed from the batch, such as logits ``[B, classes]``.
            batch: images ``[B, channels, H, W]`` with their targets.
        """

    @abstractmethod
    def meter(self, facts: TaskFacts) -> Meter[Out_contra]:
        """Return a new meter of `metrics`."""

    def identity(self) -> Mapping[str, Json]:
        """Return plain data that differ where the losses differ; empty for an objective without options."""
        return {}


class Streams(Protocol):
    """The random numbers of one epoch of one seed."""

    def generator(self, purpose: str) -> torch.Generator:
        """Return the epoch's generator for a purpose, on the CPU."""


@final
@dataclass(frozen=True)
class Draw:
    """What was drawn for one batch, and lies on the device or in pinned memory before the batch is made.

    Attributes:
        tensors: small tensors by name (indices, offsets), or the bytes that workers decoded; the first dimension counts
            the samples.
        sizes: how many samples of the batch each worker of a data-parallel training has; empty: each has all of them.
    """

    tensors: Mapping[str, Tensor]
    sizes: tuple[int, ...] = ()

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...], torch.dtype], ...]:
        """Return name, shape and type of each tensor; draws of one signature can share a captured step."""
        return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in self.tensors.items())


class Feed(ABC):
    """The batches of one part on one device."""

    @property
    @abstractmethod
    def targets(self) -> Tensor:
        """The target of each sample, in the order of the sample indices, on the device."""

    @abstractmethod
    def steps(self) -> int:
        """Return the number of batches of one epoch."""

    @abstractmethod
    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the draws of one epoch, from a step on; everything random is drawn at the call.

        Args:
            streams: the source of order and augmentation; None: every sample in order, as it is.
            start: the first step that is returned; a resume within an epoch begins there.
        """

    @abstractmethod
    def batch(self, draw: Draw) -> AnyBatch:
        """Make the batch of a draw, on the device."""


class Feeding(ABC):
    """How samples of a source reach the device: what is kept there, and the size of a batch."""

    def sampled(self, source: Source, device: torch.device) -> Feed | None:
        """Open the training set so that a few batches are read at the speed of a training, without reading all data.

        Returns:
            The feed, whose pixels may be normalized in another way; None where all data are read before a training.
        """
        return None

    @abstractmethod
    def steps(self, samples: int) -> int:
        """Return the number of training batches that so many samples give."""

    @abstractmethod
    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the training set.

        Args:
            source: the data.
            device: where batches are given.

        Raises:
            InputError: the data cannot be read, or do not fit the feeding.
            RunError: a download failed, or a file vanished.
        """

    @abstractmethod
    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set, in order and without augmentation; raises as `training`."""

    @abstractmethod
    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the bytes that the samples of all three sets take on the device."""

    @abstractmethod
    def identity(self) -> Mapping[str, Json]:
        """Return plain data that differ where the augmentation differs.

        The batch size is not part of the identity: the batch size belongs to the recipe of a training, and cache keys
        hold that recipe beside this identity.
        """


@final
@dataclass(frozen=True, eq=False)
class Task(Generic[Out]):
    """A data set with its objective and the way in which it is fed to the device.

    Making a task touches no file: `facts` looks at the data, `training` and `evaluation` read them.

    >>> from tskd_tune.tasks import TASKS
    >>> task = TASKS.build("synthetic", train=64, size=16, batch_size=16)
    >>> task.facts().samples, task.steps()
    ((64, 0, 32), 4)
    >>> feed = task.training(torch.device("cpu"))
    >>> feed.batch(next(feed.draws())).images.shape
    torch.Size([16, 3, 16, 16])
    """

    source: Source
    objective: Objective[Out]
    feeding: Feeding

    def facts(self) -> TaskFacts:
        """Look at the data without loading the samples.

        Raises:
            InputError: see `Source.facts`.
        """
        facts = self.source.facts()
        return replace(facts, metrics=declared_metrics(self.objective.metrics(facts), type(self.objective).__name__))

    def summary(self) -> DataSummary:
        """Return how the data are understood; see `Source.summary`."""
        return self.source.summary()

    def verify(self) -> Sequence[str]:
        """Read all data, and return one sentence for each oddity; a second call is free. See `Source.verify`."""
        return self._oddities

    def steps(self) -> int:
        """Return the number of training batches of one epoch."""
        return self.feeding.steps(self.facts().samples[0])

    def training(self, device: torch.device) -> Feed:
        """Open the training set on a device; see `Feeding.training`."""
        return self.feeding.training(self.source, device)

    def evaluation(self, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set on a device.

        Raises:
            InputError: the set has no samples; or see `Feeding.training`.
        """
        if self.facts().samples[PLACES[part]] == 0:
            raise InputError(f"task: there is no {part} set to evaluate; set task.{part} above 0")
        return self.feeding.evaluation(self.source, part, device)

    def meter(self) -> Meter[Out]:
        """Return a new meter of the task's metrics."""
        return self.objective.meter(self.facts())

    def fingerprint(self) -> str:
        """Return a digest of data, split, augmentation and objective: what a cached teacher depends on."""
        objective = self.objective.identity()
        if not isinstance(objective, Mapping):
            raise InputError(
                f"task: {type(self.objective).__name__}.identity gave {shown(objective)}, but must give a mapping;"
                " return at least {}"
            )
        # Left out where it is empty, so that teachers that were trained before objectives had options are found.
        content = {"source": self.source.identity(), **self.feeding.identity()}
        content |= {"objective": objective} if objective else {}
        try:
            return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        except TypeError as error:
            raise InputError(
                f"task: what names the data is no plain data ({error}); return numbers, texts, lists and mappings from"
                " the 'identity' of source, feeding and objective"
            ) from error

    @cached_property
    def _oddities(self) -> tuple[str, ...]:
        return tuple(self.source.verify())


def summary_of(facts: TaskFacts, source: str = "images", names: Sequence[str] | None = None) -> DataSummary:
    """Return the summary that facts alone give; without names the classes, if any, are called by their numbers."""
    numbers = map(str, range(facts.outputs if facts.classes else 0))
    lengths = [length for length in facts.inputs[1:] if length is not None]
    return DataSummary(
        source=source,
        classes=tuple(names or numbers),
        counts=None,
        samples=facts.samples,
        origins=("", "", ""),
        size=(lengths[1], lengths[0]) if len(lengths) == 2 == len(facts.inputs) - 1 else None,
    )


TASKS: Registry[Task] = Registry("tasks", Task)
