"""Times a training: the seconds of a general step, of a review step and of evaluating an image.

Some steps of the real loop are timed with random weights: on batches of the task where a training reads files as it
goes, otherwise on random images. The result is rough: one training runs at a time, and the machine has not warmed up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, inputs_of
from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.sweeps.estimating.loading import Loading
from tskd_tune.tasks.base import Draw, Feed, Feeding, Source, Streams, Task, TaskFacts
from tskd_tune.tasks.shards import part_of
from tskd_tune.tasks.stand_ins import stand_in_batch, stand_in_targets
from tskd_tune.training.compute import Compute
from tskd_tune.training.trainer import Trainer

MOST_STEPS = 6
MANY_STEPS = 10**6
MOST_VALUES = 2**22
"""Pixel values that are timed at once on a CPU where images have different sizes; larger batches are timed in part."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Pace:
    """Seconds of a general step, of a review step (None: the arm reviews nothing), and of evaluating an image.

    ``teacher_image``: seconds of evaluating an image with a teacher that is trained with its student; otherwise 0.
    """

    general: float
    review: float | None
    image: float
    teacher_image: float = 0.0

    def loaded(self, loading: Loading | None) -> Pace:
        """Return the pace at which the batches come too; None: they are on the device before the training."""
        if loading is None:
            return self
        review = None if self.review is None else loading.of_step(self.review)
        image, teacher = loading.of_image(self.image), self.teacher_image
        return Pace(loading.of_step(self.general), review, image, loading.of_image(teacher) if teacher else 0.0)


def pace(experiment: Experiment, trainer: Trainer, watch: Stopwatch, budget: float) -> Pace:
    """Time a training's steps for about ``budget`` seconds; its memory is filled with snapshots of the student now."""
    general = watch.time(trainer, 0, budget / 2)  # no plan begins with a review
    plan, review = experiment.plan(), None
    if plan is not None and trainer.review is not None:
        for _ in range(plan.k):
            trainer.review.memory.memorize(trainer.student)
        review = watch.time(trainer, plan.review_epochs[0], budget / 2)
    image = watch.time_evaluation(trainer.student)
    online = trainer.teacher is not None and experiment.trains_teacher
    return Pace(general, review, image, watch.time_evaluation(trainer.teacher) if online and trainer.teacher else 0.0)


def seconds(experiment: Experiment, timed: Pace) -> float:
    """Return the seconds of all steps and evaluations of an experiment, at its own or a similar arm's pace."""
    task, plan = task_of(experiment), experiment.plan()
    steps, reviewed, review = experiment.training.epochs * task.steps(), 0, timed.general
    if plan is not None:
        reviewed = len(plan.review_nodes) * plan.review_steps(task.steps())
        # A step costs about three forward passes (forward and backward); each of k snapshots adds one forward pass.
        review = timed.general * (1 + plan.k / 3) if timed.review is None else timed.review
    samples = task.facts().samples
    schedule, epochs = experiment.schedule(), range(experiment.training.epochs)
    tested, validated = sum(map(schedule.tests, epochs)), sum(map(schedule.validates, epochs))
    evaluated = validated * samples[1] + tested * samples[2]
    found = (steps - reviewed) * timed.general + reviewed * review + evaluated * timed.image
    if experiment.trains_teacher:
        found += tested * (samples[1] + samples[2]) * timed.teacher_image
    return found


def by_epochs(experiment: Experiment) -> Experiment:
    """Return an experiment whose steps cost the same, and whose nodes are epochs, so that an epoch is of one kind."""
    review = experiment.review
    if review is None or not review.counts_steps:
        return experiment
    review = review.model_copy(update={"plan": type(review.plan)(), "delta": 1})
    epochs = max(experiment.training.epochs, review.k + 1)
    training = experiment.training.model_copy(update={"epochs": epochs})
    return experiment.model_copy(update={"review": review, "training": training})


class Stopwatch(Feed):
    """Replaces a training set by random images of the same shape, and measures the time between batches."""

    def __init__(self, task: Task, compute: Compute, clock: Clock, loading: Loading | None = None) -> None:
        """Give the batches of ``loading`` in turns, or random ones; the time of loading is not measured here."""
        self.task = replace(task, feeding=Timed(self))
        self._compute = compute
        self._clock = clock
        self._budget = 0.0
        self._untimed = 1
        self._times: list[float] = []
        facts = task.facts()
        size = -(-facts.samples[0] // task.steps())
        timed = size if facts.typical is None or compute.device.type != "cpu" else _timed_on_cpu(facts, size)
        self._batches: Sequence[AnyBatch] = (
            [part_of(batch, 0, timed) for batch in loading.batches]
            if loading is not None
            else [stand_in_batch(facts, timed, compute.device, facts.usual)]
        )
        self._given = 0
        self._share = timed / size
        self._targets = stand_in_targets(facts).to(compute.device)

    def time(self, trainer: Trainer, epoch: int, budget: float) -> float:
        """Return the median seconds of a step of this epoch; steps that the engine takes slowly are not timed.

        If only a part of a batch is timed, a step is taken to need the time of this part for each such part.
        """
        self._budget = budget
        self._untimed = trainer.engine.slow_steps
        self._times = []
        trainer.begin(epoch)
        for _ in trainer.steps():
            pass
        return median(self._times) / self._share

    def time_evaluation(self, network: nn.Module) -> float:
        """Return the seconds of evaluating an image; the first batch warms up and is not timed."""
        network.eval()
        with torch.no_grad(), self._compute.autocast():
            for _ in range(2):
                before = self._now()
                batch = self._batches[0]
                network(*inputs_of(network, self._compute.arrange(batch.images), batch))
        return (self._now() - before) / len(self._batches[0].images)

    @property
    def targets(self) -> Tensor:
        """The classes of the batch ``[B]``; of detection none."""
        return self._targets

    def steps(self) -> int:
        """Return a number so large that all timed steps of a review epoch review, even if the task has few steps."""
        return MANY_STEPS

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Yield the same draw again and again, and record the seconds between the requests."""
        for _ in range(self._untimed):
            yield Draw({})
        began = before = self._now()
        while len(self._times) < MOST_STEPS and (not self._times or before - began < self._budget):
            yield Draw({})
            now = self._now()
            self._times.append(now - before)
            before = now

    def batch(self, draw: Draw) -> AnyBatch:
        """Return the batches in turns."""
        self._given += 1
        return self._batches[self._given % len(self._batches)]

    def _now(self) -> float:
        self._compute.synchronize()
        return self._clock()


def _timed_on_cpu(facts: TaskFacts, size: int) -> int:
    """Return how many images of a batch are timed: as many as hold `MOST_VALUES` at most, and at least one."""
    return max(1, min(size, MOST_VALUES // math.prod(facts.usual)))


@dataclass(frozen=True)
class Timed(Feeding):
    """Feeds a training from a stopwatch, and its evaluations with no samples: evaluations are timed separately."""

    watch: Stopwatch

    def steps(self, samples: int) -> int:
        """Return the steps of the stopwatch."""
        return self.watch.steps()

    def training(self, source: Source, device: torch.device) -> Feed:
        """Return the stopwatch."""
        return self.watch

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Return a feed without samples."""
        return Nothing()

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return 0: only random images of one batch are held."""
        return 0

    def identity(self) -> Mapping[str, Json]:
        """Return nothing: no teacher is cached with this identity."""
        return {}


class Nothing(Feed):
    """A feed without samples, of which nothing is measured."""

    @property
    def targets(self) -> Tensor:
        """No classes."""
        return torch.zeros(0, dtype=torch.int64)

    def steps(self) -> int:
        """Return 0."""
        return 0

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return nothing."""
        return iter(())

    def batch(self, draw: Draw) -> AnyBatch:
        """Refuse, as there is no draw."""
        raise RunError("a feed without samples has no batch")
