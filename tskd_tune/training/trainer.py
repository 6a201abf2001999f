"""The only loop: an epoch is begun, its steps are taken one by one, and it ends with an evaluation.

The plan and the distiller decide from the numbers of the epoch and of the step alone which kind of step is taken; an
engine carries the step out. Student and teacher each run at most once a batch. A network whose output is not used in an
epoch does not run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic

import torch
from torch import nn

from tskd_tune.contracts import Out, Saved
from tskd_tune.distillers.base import Distiller
from tskd_tune.errors import RunError
from tskd_tune.networks.base import Network
from tskd_tune.tasks.base import Feed, Task
from tskd_tune.teaching.base import TeacherMethod
from tskd_tune.training.compute import Compute
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.evaluation import Evaluations
from tskd_tune.training.means import refuse_divergence
from tskd_tune.training.observers import Observer, Observers
from tskd_tune.training.optim import load_optimizer_state, optimizer_state
from tskd_tune.training.parts import Engine, EngineFactory, Parts
from tskd_tune.training.recipe import Recipe
from tskd_tune.training.record import Record
from tskd_tune.training.replay import Replay
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.schedule import Schedule
from tskd_tune.training.steps import StepKind
from tskd_tune.training.streams import NetworkStream, Streams, undisturbed
from tskd_tune.training.teacher_role import TeacherRole


@dataclass
class _Epoch:
    """The epoch that a training is in: how many steps it has taken, and the seconds that they took."""

    number: int
    step: int = 0
    seconds: float = 0.0


class Trainer(Generic[Out]):
    """Trains one student; its state between any two steps is all that a resume needs.

    Attributes:
        history: the records of the epochs that have ended.
        observers: who hears of every epoch and every step.
    """

    def __init__(
        self,
        task: Task[Out],
        student: Network[Out],
        teacher: nn.Module | None,
        distiller: Distiller[Out] | TeacherMethod[Out],
        review: Reviewing | None,
        *,
        recipe: Recipe,
        schedule: Schedule,
        compute: Compute,
        replay: Replay | None = None,
        observers: Sequence[Observer] = (),
        engine: EngineFactory[Out] = EagerEngine,
    ) -> None:
        """Compose a training.

        Args:
            task: the data, the losses and the metrics.
            student: the network that is trained; a teacher, where a teacher is trained.
            teacher: frozen unless the distiller asks for a trainable one.
            distiller: the losses beside the task's; those of a teacher's own training are a `TeacherMethod`.
            review: the reviews, if any.
            recipe: how the optimizer is made, and its learning rate in each epoch.
            schedule: the length of the training, its seed and when the test part is read.
            compute: where and how precisely the training computes.
            replay: which of its snapshots a frozen teacher is in an epoch; None: always the same.
            observers: who hears of every epoch and every step.
            engine: makes what carries out the steps.
        """
        self.task = task
        self.compute = compute = compute.with_own_stream()
        self.student = compute.place(student)
        self.teacher = None if teacher is None else compute.place(teacher)
        self.distiller = compute.place(distiller)
        self._role = TeacherRole(self.teacher, self.distiller)
        self.review = review
        self.replay = replay
        if review is not None:
            review.place(compute)
        self.recipe = recipe
        self.schedule = schedule
        self.observers = Observers(observers)
        self.optimizers = self._optimizers()
        parts = Parts(self.student, self.teacher, self.distiller, review, task.objective, compute, self.optimizers)
        self.engine: Engine = engine(parts)
        self.history: list[Record] = []
        self._streams = Streams(schedule.seed)
        self._network = NetworkStream(schedule.seed, compute.device, compute.rank)
        self._epoch: _Epoch | None = None
        self.evaluations = Evaluations(task, compute, schedule)

    @cached_property
    def feed(self) -> Feed:
        """The training set on the device, which is read when it is first asked for; of several workers, the share."""
        return self.compute.share_of(self.task.training(self.compute.device))

    @cached_property
    def _steps_per_epoch(self) -> int:
        return self.task.steps()

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that is trained now or next."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether every epoch has been trained."""
        return self.next_epoch >= self.schedule.epochs

    @property
    def is_within_epoch(self) -> bool:
        """Whether an epoch was begun that has not ended."""
        return self._epoch is not None

    def epoch(self) -> Record:
        """Train the next epoch, or the rest of the one that was begun, and return its record; see `end`."""
        if not self.is_within_epoch:
            self.begin()
        with undisturbed():
            list(self.steps(restores=False))
        return self.end()

    def begin(self, epoch: int | None = None) -> None:
        """Begin an epoch, by default the next one: set rates, modes and all numbers that change from epoch to epoch."""
        with self.compute.lane():
            self._set_out(self.next_epoch if epoch is None else epoch)
            if self.review is not None:
                self.review.prepare(self._current.number, 0, self.student)
            self.observers.begun(self)

    def kind(self, epoch: int, step: int) -> StepKind:
        """Return what kind of step is the ``step``-th of an epoch, both from 0."""
        review, phase = self.review, (self.distiller.phase(epoch), self._role.learns(epoch))
        return StepKind(phase=phase) if review is None else review.step_kind(epoch, step, self._steps_per_epoch, phase)

    def steps(self, *, restores: bool = True) -> Iterator[StepKind]:
        """Take the steps of the epoch that was begun; each ``next`` takes one and returns its kind.

        Without ``restores`` the caller restores the global generators: for each step this would cost some 0.1 ms.

        Raises:
            RunError: no epoch was begun; or lambda cannot be settled, or a file vanished.
        """
        return self._take(self._network.drawing if restores else self._network.anew)

    def _take(self, seeded: Callable[[int, int], AbstractContextManager[None]]) -> Iterator[StepKind]:
        """Take the rest of the steps, each with global generators that are ``seeded`` for its epoch and number.

        If they were seeded once an epoch, a distiller that draws numbers would change what the student draws later.
        """
        epoch = self._current
        with self.compute.lane():
            draws = self.feed.draws(self._streams, epoch.step)
        while True:
            started = time.perf_counter()
            with self.compute.lane():
                with seeded(epoch.number, epoch.step), self.compute.choosing_kernels():
                    draw = next(draws, None)
                    if draw is None:
                        break
                    if self.review is not None:
                        self.review.pass_node(epoch.number, epoch.step, self.student, self.optimizers)
                    kind = self.kind(epoch.number, epoch.step)
                    if self.recipe.by_step:
                        self.recipe.set_rates(self.optimizers, epoch.number + epoch.step / self._steps_per_epoch)
                    self.engine.step(self.feed, draw, kind)
                epoch.step += 1
                epoch.seconds += time.perf_counter() - started
                self.observers.stepped(self)
            yield kind

    def end(self) -> Record:
        """End the epoch that was begun: memorize and evaluate as planned, and add its record to the history.

        Raises:
            DivergedError: the loss is not finite.
            RunError: no epoch was begun.
        """
        epoch = self._current
        with self.compute.lane(), self._network.drawing(epoch.number), self.compute.choosing_kernels():
            record = self._closed(epoch)
        self._epoch = None
        self.history.append(record)
        self.history[-1] = self.observers.ended(self, record)
        self.observers.recorded(self, self.history[-1])
        return self.history[-1]

    def state_dict(self) -> Saved:
        """Return everything that a resume needs, as tensors and plain values; valid between any two steps.

        At the end of an epoch no generator's state is needed: everything that an epoch draws is a function of the seed
        and the epoch.
        """
        self.compute.synchronize()
        return {
            "history": [record.plain() for record in self.history],
            "student": self.student.state_dict(),
            "teacher": self._role.state_dict(),
            "distiller": self.distiller.state_dict(),
            "review": None if self.review is None else self.review.state_dict(),
            "optimizers": [optimizer_state(optimizer) for optimizer in self.optimizers],
            "epoch": None if self._epoch is None else self._epoch_state(self._epoch),
        }

    def load_state_dict(self, state: Saved) -> None:
        """Go back to the end of the epoch, or to the step, at which the state was taken."""
        self.compute.synchronize()
        self.engine.forget()
        self.history = [Record.read(line) for line in state["history"]]
        self._epoch = None
        epoch = state.get("epoch")
        if epoch is not None:
            self._set_out(self.next_epoch)  # before the states are loaded: a review may reset its extractors
        self.student.load_state_dict(state["student"])
        self._role.load_state_dict(state["teacher"])
        self.distiller.load_state_dict(state["distiller"])
        if self.review is not None:
            self.review.load_state_dict(state["review"], self.student)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            load_optimizer_state(optimizer, saved)
        if epoch is not None:
            self._load_epoch(epoch)

    def _epoch_state(self, epoch: _Epoch) -> Saved:
        return {
            "step": epoch.step,
            "seconds": epoch.seconds,
            "engine": self.engine.state_dict(),
            "streams": self._streams.state_dict(),
            "generators": [generator.get_state() for generator in self.distiller.generators()],
        }

    def _load_epoch(self, state: Saved) -> None:
        self._current.step, self._current.seconds = state["step"], state["seconds"]
        self.engine.load_state_dict(state["engine"])
        self._streams.load_state_dict(state["streams"])
        for generator, saved in zip(self.distiller.generators(), state["generators"], strict=True):
            generator.set_state(saved)

    @property
    def _current(self) -> _Epoch:
        if self._epoch is None:
            raise RunError("training: no epoch was begun; call begin() before steps() and end()")
        return self._epoch

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        groups = [list(self.student.parameters()), list(self.distiller.parameters())]
        own = None
        if self.review is not None:
            own = self.review.own_optimizer()
            groups.append([] if own is not None else self.review.parameters())
        groups.append(self._role.parameters())
        optimizer = self.recipe.optimizer(groups, self.compute.device)
        return [optimizer] if own is None else [optimizer, own]

    def _set_out(self, epoch: int) -> None:
        started = time.perf_counter()
        self.compute.use_threads()
        self.compute.align(
            [self.student, self.teacher, self.distiller, None if self.review is None else self.review.loss]
        )
        self._streams.begin(epoch)
        with self._network.drawing(epoch), self.compute.choosing_kernels():
            self._set_epoch(epoch)
        self.engine.begin()
        self._epoch = _Epoch(epoch, seconds=time.perf_counter() - started)

    def _set_epoch(self, epoch: int) -> None:
        self.recipe.set_rates(self.optimizers, epoch)
        self.student.train()
        self.distiller.train()
        self._role.begin_epoch(epoch)
        if self.replay is not None:
            self.replay.begin_epoch(epoch)
        self.distiller.begin_epoch(epoch, self._streams.kept("distiller"))
        if self.review is not None:
            self.review.begin_epoch(epoch, self.optimizers, self._streams.kept("sequence_order"))

    def _closed(self, epoch: _Epoch) -> Record:
        started = time.perf_counter()
        means = self.engine.means()
        refuse_divergence(epoch.number, means)
        self.compute.synchronize()
        trained = time.perf_counter()
        if self.review is not None:
            self.review.end_epoch(epoch.number, self.student)
        online = self.teacher if self._role.is_online else None
        metrics = self.evaluations.planned(epoch.number, self.student, online)
        return Record(
            seed=self.schedule.seed,
            epoch=epoch.number,
            phase="general" if self.review is None else self.review.plan.phase(epoch.number),
            lr=self.recipe.rate(epoch.number),
            numbers={**means, **self.engine.shown(), **metrics},
            seconds=epoch.seconds + trained - started,
            eval_seconds=time.perf_counter() - trained,
        )
