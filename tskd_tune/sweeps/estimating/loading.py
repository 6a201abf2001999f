"""Times how fast workers make the batches of a task, where a training reads files as it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from tskd_tune.contracts import AnyBatch
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.tasks.base import Task
from tskd_tune.training.compute import Compute
from tskd_tune.training.streams import Streams

KEPT, MOST_BATCHES = 4, 24


@dataclass(frozen=True)
class Loading:
    """Some batches of a task's training set, and how fast they came.

    Attributes:
        batches: the first batches, on the device.
        seconds: seconds from batch to batch, if nobody computes with the batches.
        workers: processes that make batches beside the training; 0: the training waits for each batch.
    """

    batches: Sequence[AnyBatch]
    seconds: float
    workers: int

    def of_step(self, step: float) -> float:
        """Return the seconds of a step that takes ``step`` seconds once the batch is there."""
        return max(step, self.seconds) if self.workers else step + self.seconds

    def of_image(self, image: float) -> float:
        """Return the seconds of evaluating an image, from those of the network."""
        each = self.seconds / max(1, len(self.batches[0].images))
        return max(image, each) if self.workers else image + each

    def words(self) -> str:
        """Say how fast batches come."""
        if not self.workers:
            return f"to read a batch takes {self.seconds:.2g} s beside each step"
        who = "1 worker reads" if self.workers == 1 else f"{self.workers} workers read"
        return f"{who} a batch in {self.seconds:.2g} s while the training takes a step"


class Loads:
    """How fast each task gives its batches; each task is timed once."""

    def __init__(self, budget: float, clock: Callable[[], float]) -> None:
        self._budget, self._clock = budget, clock
        self._known: dict[Task, Loading | None] = {}
        self._words: list[str] = []

    def of(self, experiment: Experiment) -> Loading | None:
        """Return how the batches of an experiment come; None: all data are read before the training."""
        task = task_of(experiment)
        if task not in self._known:
            loading = loading_of(task, experiment.training.compute(), self._budget, self._clock)
            self._known[task] = loading
            self._words += [] if loading is None else [loading.words()]
        return self._known[task]

    def saw(self, loading: Loading | None, step: float) -> None:
        """Note a training that waits for its batches: a step alone takes ``step`` seconds."""
        if loading is not None and loading.workers and loading.seconds > step:
            self._words.append(
                f"the reading of files bounds the speed (a step alone takes {step:.2g} s): raise task.workers where"
                " there are cores"
            )

    def words(self) -> str:
        """Say how fast the batches come of the tasks that read files as they train; empty without such a task."""
        return "; ".join(dict.fromkeys(self._words))


def loading_of(task: Task, compute: Compute, budget: float, clock: Callable[[], float]) -> Loading | None:
    """Read some batches of a training set from its files; None for a task that reads all data before a training.

    Args:
        task: the task.
        compute: where the batches go.
        budget: about how many seconds this may take after the first batch, which waits for the workers to start.
        clock: counts seconds.
    """
    feed = task.feeding.sampled(task.source, compute.device)
    if feed is None:
        return None
    batches: list[AnyBatch] = []
    began, count = clock(), -1
    for draw in islice(feed.draws(Streams(0)), MOST_BATCHES):
        if len(batches) < KEPT:
            batches.append(feed.batch(draw))
        count += 1
        if count == 0:
            began = clock()
        elif clock() - began >= budget:
            break
    return Loading(batches, (clock() - began) / count if count else 0.0, getattr(task.feeding, "workers", 0))
