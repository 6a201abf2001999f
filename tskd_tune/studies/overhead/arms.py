"""The trainings that the study of the overhead measures: a pair of networks, and what is added to plain training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Classified, Features, Output
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.method.review import ReviewTerms
from tskd_tune.sweeps.estimating.stopwatch import Clock, Stopwatch
from tskd_tune.tasks.base import Draw
from tskd_tune.tasks.stand_ins import stand_in_targets
from tskd_tune.training.trainer import Trainer

# With this learning rate the weights hardly change, so each round measures the same.
LR = 1e-4


@dataclass(frozen=True)
class Pair:
    """A teacher and a student, untrained, and the random images that both are given.

    Attributes:
        teacher: the name of the teacher's network.
        student: the name of the student's network.
        batch_size: images of a step.
        size: height and width of an image, in pixels.
        classes: the number of classes.
    """

    teacher: str
    student: str
    batch_size: int
    size: int
    classes: int


@dataclass(frozen=True)
class Arm:
    """What is added to plain training: a distiller, or a review.

    Attributes:
        name: how the arm is named in tables.
        distiller: the name of the distiller.
        k: the snapshots of a review; 0: no review.
        width: the channels of the extractors' states.
    """

    name: str
    distiller: str = "none"
    k: int = 0
    width: int = 0

    @property
    def review_epoch(self) -> int:
        """The epoch that reviews; without a review a general one."""
        return self.k


def reviewing(k: int, width: int) -> Arm:
    """Return the arm that reviews k snapshots with extractors of this width."""
    return Arm(f"TSKD k={k} width={width}", k=k, width=width)


def experiment_of(pair: Pair, arm: Arm, *, fold: bool = True) -> Experiment:
    """Return the options of an arm's training on one thread of the CPU.

    Args:
        pair: the networks and the images.
        arm: what is added to plain training.
        fold: whether batch norms of frozen networks are folded, as they are by default.
    """
    sizes = {"batch_size": pair.batch_size, "size": pair.size, "classes": pair.classes, "test": 1}
    extractor = {"name": "conv_lstm", "hidden": arm.width}
    document: dict[str, object] = {
        "task": {"name": "synthetic", "train": max(pair.batch_size, pair.classes), **sizes},
        "student": pair.student,
        "distiller": arm.distiller,
        "review": {"k": arm.k, "delta": 1, "lambda": 1.0, "extractor": extractor} if arm.k else None,
        "training": {"epochs": arm.k + 1, "lr": LR, "device": "cpu", "threads": 1, "fold": fold},
    }
    return Experiment.read(document | ({"teacher": pair.teacher} if arm.k or arm.distiller != "none" else {}))


class Training:
    """An arm's training, whose steps can be timed again and again; its memory holds k snapshots that differ.

    Attributes:
        experiment: its options.
        watch: what gives it batches and measures the time between them.
        trainer: the training.
    """

    def __init__(self, pair: Pair, arm: Arm, *, fold: bool = True, clock: Clock = time.process_time) -> None:
        """Build the training, and take a step before each snapshot."""
        self.experiment = experiment_of(pair, arm, fold=fold)
        task = task_of(self.experiment)
        self.watch = Stopwatch(task, self.experiment.training.compute(), clock)
        teacher = teacher_network(self.experiment, task.facts()) if self.experiment.needs_teacher else None
        self.trainer: Trainer = assemble(self.experiment, self.watch.task, teacher, stand_in_targets(task.facts()))
        self._epoch = arm.review_epoch
        for _ in range(arm.k):
            self.watch.time(self.trainer, 0, 0.0)
            assert self.trainer.review is not None
            self.trainer.review.memory.memorize(self.trainer.student)

    def seconds(self, budget: float) -> float:
        """Return the median seconds of some steps: with a review where the arm reviews, and never a first one."""
        return self.watch.time(self.trainer, self._epoch, budget)

    def begin(self) -> None:
        """Begin the epoch whose steps are timed, so that `step` can be called."""
        self.trainer.begin(self._epoch)

    def step(self) -> None:
        """Take one step of the kind that is timed."""
        self.trainer.engine.step(self.watch, Draw({}), self.trainer.kind(self._epoch, 1))

    def student(self) -> Output:
        """Run the student forward in the mode of training."""
        return self._classified()

    def task_loss(self) -> Tensor:
        """Compute the losses of the task on a batch."""
        losses = self.trainer.task.objective.losses(self._classified(), self._batch)
        return torch.stack(list(losses.values())).sum()

    def _classified(self) -> Classified:
        output: Classified = self.trainer.student(self.trainer.compute.arrange(self._batch.images))
        return output

    @property
    def _batch(self) -> AnyBatch:
        return self.watch.batch(Draw({}))

    def pieces(self) -> ReviewPieces:
        """Return the pieces of a review step, each of which can be computed alone."""
        return ReviewPieces(self.trainer, self.student(), self._batch.images)


class ReviewPieces:
    """The pieces of a review step on one batch: the forward passes, and the review's own loss with its gradient."""

    def __init__(self, trainer: Trainer, student: Output, images: Tensor) -> None:
        """Compute what the review's loss takes as input; ``student``: what the student computed of the images."""
        assert trainer.teacher is not None and trainer.review is not None
        self._teacher, self._review = trainer.teacher, trainer.review
        self._images = trainer.compute.arrange(images)
        self._student_output = student.detached()
        self._teacher_output, self._past = self.teacher(), self.snapshots()

    def teacher(self) -> Output:
        """Run the teacher up to its last tap."""
        output: Output = self._teacher(self._images, heads=False)
        return output

    def snapshots(self) -> Sequence[Output]:
        """Run all k snapshots up to their last tap."""
        return self._review.memory.recall(self._images)

    def loss(self) -> Tensor:
        """Compute the review's loss on the features of the networks: transform, sequence, extractor and distance."""
        features = {name: map_.clone().requires_grad_() for name, map_ in self._student_output.features.items()}
        given = Features(features, self._student_output.preactivations)
        terms: ReviewTerms = self._review.loss(given, self._teacher_output, self._past)
        return terms.loss

    def descend(self) -> None:
        """Compute the review's loss and its gradients, down to the student's features."""
        self.loss().backward()  # type: ignore[no-untyped-call]


def timed(function: Callable[[], object], clock: Clock, budget: float) -> list[float]:
    """Call a function once untimed, then until ``budget`` seconds have passed; return the seconds of each call."""
    function()
    found: list[float] = []
    while not found or sum(found) < budget:
        started = clock()
        function()
        found.append(clock() - started)
    return found
