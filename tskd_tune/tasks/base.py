"""What every task is: a data set with its loss and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tskd_tune.contracts import Batch, Output
from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric, Part
from tskd_tune.registry import Registry
from tskd_tune.tasks.summary import DataSummary


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before its images are loaded: enough to build networks and to time a step.

    Attributes:
        classes: the number of classes.
        channels: the channels of an image.
        size: the height and width of an image, in pixels.
        samples: training, validation and test images.
        metrics: what the task measures, the headline first; a source of images leaves them out, and the task adds them.
    """

    classes: int
    channels: int
    size: int
    samples: tuple[int, int, int]
    metrics: tuple[Metric, ...] = ()

    @property
    def headline(self) -> Metric:
        """The metric by which networks are compared: the first.

        Raises:
            InputError: the task declares no metric.
        """
        if not self.metrics:
            raise InputError("task: it declares no metric, so nothing can be compared; name one in facts().metrics")
        return self.metrics[0]


class Task(ABC):
    """A data set, split once by a fixed seed, with its loss and its metric.

    A constructor takes options only and touches no file: ``facts`` looks, ``load`` reads.
    """

    @abstractmethod
    def facts(self) -> TaskFacts:
        """Look at the data without loading it.

        Raises:
            InputError: the data is not there, or a class has too few images for the split.
        """

    def summary(self) -> DataSummary:
        """Tell what the data is taken for, as `facts` found it.

        Raises:
            InputError: as `facts`.
        """
        return summary_of(self.facts())

    def verify(self) -> Sequence[str]:
        """Read all data once, before anything is trained, and return a sentence for all that is odd about it.

        Raises:
            InputError: data is damaged; all of it is counted, and the first is named.
            RunError: a download failed, or a file vanished.
        """
        self.load(torch.device("cpu"))
        return ()

    @abstractmethod
    def load(self, device: torch.device) -> None:
        """Read the data (downloading it where the task says so) and keep it on the device. Repeated calls are free."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest of the data, the split and the augmentation: what a cached teacher depends on."""

    @property
    @abstractmethod
    def targets(self) -> Tensor:
        """The class of every training sample ``[N]``, in the order of the sample indices."""

    @abstractmethod
    def train_batches(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        """Iterate over the shuffled, augmented training part once; both generators live on the CPU."""

    @abstractmethod
    def train_steps(self) -> int:
        """Return the number of batches of one epoch."""

    @abstractmethod
    def criterion(self, student: Output, batch: Batch) -> Tensor:
        """Return the task's loss, the mean over the batch."""

    @abstractmethod
    def evaluate(self, forward: Callable[[Tensor], Output], part: Part) -> Mapping[str, float]:
        """Return the value of each metric of a part, by the metric's name."""


def summary_of(facts: TaskFacts, source: str = "images", names: Sequence[str] | None = None) -> DataSummary:
    """Return what facts alone tell of a data set; without names the classes go by their numbers."""
    return DataSummary(
        source=source,
        classes=tuple(names or map(str, range(facts.classes))),
        counts=None,
        samples=facts.samples,
        origins=("", "", ""),
        size=(facts.size, facts.size),
    )


TASKS: Registry[Task] = Registry("tasks", Task)
