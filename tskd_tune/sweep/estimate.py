"""What a run will cost: runs, hours and disk, from a few steps on random images on this machine.

No data is read and nothing is trained: every part is built on random weights, and the clock is read around some
general and some review steps of the real loop. It is rough: no data loading, one training at a time, a cold machine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor, nn

from tskd_tune.errors import DivergedError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, assemble_teacher, task_of, teacher_network
from tskd_tune.experiment.teacher import is_ready, teacher_key
from tskd_tune.output import Batch, Output
from tskd_tune.sweep.schema import Sweep
from tskd_tune.sweep.space import Point
from tskd_tune.tasks.base import Part, Task, TaskFacts
from tskd_tune.training.execution import Execution
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer

MOST_POINTS = 12
BUDGET = 6.0
MOST_STEPS = 6
MANY_STEPS = 10**6
Clock = Callable[[], float]


@dataclass(frozen=True)
class Cost:
    """What one training costs: seconds, and bytes of its checkpoint with those of its student's file."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run will cost on this machine, roughly.

    Attributes:
        runs: trainings, one a seed of each point.
        epochs: the epochs of all of them; of a search the most that they can be.
        hours: wall hours, those of the teachers included.
        teacher_hours: the wall hours of teachers that the cache does not hold.
        teachers: how many those are.
        concurrent: trainings at once on this machine.
        disk_bytes: the checkpoints and students of all trainings.
        how: how it was measured, a sentence.
    """

    runs: int
    epochs: int
    hours: float
    teacher_hours: float
    teachers: int
    concurrent: int
    disk_bytes: int
    how: str

    def plain(self) -> dict[str, Any]:
        """Return the estimate as plain data."""
        return dict(vars(self))


def of_experiment(experiment: Experiment, *, budget: float = BUDGET, clock: Clock = time.perf_counter) -> Estimate:
    """Estimate one training.

    Args:
        experiment: what would be trained, already checked.
        budget: seconds that the timing may take, about.
        clock: counts seconds.
    """
    return _estimate([experiment], taught=[experiment], runs=1, concurrent=1, budget=budget, clock=clock)


def of_sweep(sweep: Sweep, *, budget: float = BUDGET, clock: Clock = time.perf_counter) -> Estimate:
    """Estimate a sweep from at most twelve of its points: of a grid evenly chosen, of a search out of its corners.

    Teachers are those of all points, or of all corners.

    Args:
        sweep: what would be run, already checked.
        budget: seconds that the timing may take, about.
        clock: counts seconds.
    """
    points, count = candidates(sweep)
    seeds = len(sweep.all_seeds())
    trials = count * (1 if sweep.is_judged else seeds)
    found = _estimate(
        [sweep.experiment_at(point) for point in evenly(points, MOST_POINTS)],
        taught=[sweep.experiment_at(point) for point in points],
        runs=count * seeds,
        concurrent=min(concurrency(sweep), trials),
        budget=budget,
        clock=clock,
    )
    if sweep.scheduler.name == "fifo":
        return found
    return replace(found, how=f"{found.how}; less where the scheduler '{sweep.scheduler.name}' ends runs early")


def candidates(sweep: Sweep) -> tuple[list[Point], int]:
    """Return the points of a grid, or the corners of a search's space; and how many points will be trained.

    Raises:
        InputError: a grid has a range.
    """
    space = sweep.space()
    if sweep.search.name == "grid":
        points = space.grid()
        return points, len(points)
    return list(space.corners()), int(sweep.search.options()["trials"])


def concurrency(sweep: Sweep) -> int:
    """Return how many trials run at once on this machine."""
    resources = sweep.resources
    fitting = (os.cpu_count() or 1) // resources.cpu
    gpu = min(torch.cuda.device_count(), 1) if resources.gpu is None else resources.gpu
    if gpu:
        fitting = min(fitting, int(torch.cuda.device_count() / gpu))
    return max(1, min(fitting, resources.concurrent or fitting))


def evenly(points: Sequence[Point], most: int) -> list[Point]:
    """Choose at most so many points, evenly spaced, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def _estimate(
    experiments: Sequence[Experiment],
    *,
    taught: Sequence[Experiment],
    runs: int,
    concurrent: int,
    budget: float,
    clock: Clock,
) -> Estimate:
    with _undisturbed():
        began = clock()
        missing = _without_teacher(taught)
        teachers = [_teacher_cost(experiment, budget / max(4, 2 * len(missing)), clock) for experiment in missing]
        costs = _costs(experiments, began + budget, clock)
        took = clock() - began
    mean = fmean(cost.seconds for cost in costs)
    longest = max(cost.seconds for cost in costs)
    seconds = max(longest, runs * mean / concurrent)
    return Estimate(
        runs=runs,
        epochs=round(runs * fmean(experiment.training.epochs for experiment in experiments)),
        hours=(seconds + sum(teachers)) / 3600,
        teacher_hours=sum(teachers) / 3600,
        teachers=len(teachers),
        concurrent=concurrent,
        disk_bytes=round(runs * fmean(cost.bytes for cost in costs)),
        how=(
            f"timed for {took:.1f} s on this machine: a few steps on random images at {len(costs)} of"
            f" {len(experiments)} chosen points, {concurrent} at once; rough, and without the loading of data"
        ),
    )


def _costs(experiments: Sequence[Experiment], deadline: float, clock: Clock) -> list[Cost]:
    """Time points, the first and the last before those between, until the budget is used; the first always."""
    order = sorted(range(len(experiments)), key=lambda place: (min(place, len(experiments) - 1 - place), place))
    costs: list[Cost] = []
    for number, place in enumerate(order):
        left = deadline - clock()
        if costs and left <= 0:
            break
        costs.append(_cost(experiments[place], max(0.0, left) / (len(order) - number), clock))
    return costs


def _without_teacher(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return one experiment for every teacher that the cache does not hold."""
    cache = TeacherCache()
    missing = {teacher_key(experiment): experiment for experiment in experiments if not is_ready(experiment, cache)}
    return list(missing.values())


def _teacher_cost(experiment: Experiment, budget: float, clock: Clock) -> float:
    """Time the steps of the training of an experiment's teacher, and return its seconds."""
    plain = experiment.teacher_experiment()
    watch = _Stopwatch(task_of(plain), plain.training.execution(), clock)
    trainer = assemble_teacher(experiment, watch, _some_targets(watch))
    return _timed(plain, trainer, watch, budget).seconds


def _cost(experiment: Experiment, budget: float, clock: Clock) -> Cost:
    """Time an experiment's steps and add them up as its plan says."""
    watch = _Stopwatch(task_of(experiment), experiment.training.execution(), clock)
    teacher = teacher_network(experiment, watch.facts()) if experiment.needs_teacher else None
    return _timed(experiment, assemble(experiment, watch, teacher, _some_targets(watch)), watch, budget)


def _timed(experiment: Experiment, trainer: Trainer, watch: _Stopwatch, budget: float) -> Cost:
    task, facts = task_of(experiment), watch.facts()
    general = watch.time(trainer, _general_epoch(experiment), budget / 2)
    plan = experiment.plan()
    reviewed = 0
    review = general
    if plan is not None and trainer.review is not None:
        for _ in range(plan.k):
            trainer.review.memory.memorize(trainer.student)
        review = watch.time(trainer, plan.review_epochs[0], budget / 2)
        reviewed = len(plan.review_epochs) * plan.review_steps(task.train_steps())
    steps = experiment.training.epochs * task.train_steps()
    tested = {"never": 0, "last": 1, "every_epoch": experiment.training.epochs}[experiment.evaluation.test]
    evaluated = experiment.training.epochs * facts.samples[1] + tested * facts.samples[2]
    seconds = (steps - reviewed) * general + reviewed * review + evaluated * watch.time_evaluation(trainer.student)
    if trainer.teacher is not None and experiment.trains_teacher:
        seconds += tested * (facts.samples[1] + facts.samples[2]) * watch.time_evaluation(trainer.teacher)
    return Cost(seconds, _bytes(trainer.state_dict()) + _bytes(trainer.student.state_dict()))


def _some_targets(task: Task) -> Tensor:
    facts = task.facts()
    return torch.arange(facts.samples[0]) % facts.classes


def _general_epoch(experiment: Experiment) -> int:
    """Return an epoch that does not review; every plan's first epochs are such."""
    plan = experiment.plan()
    return next(epoch for epoch in range(experiment.training.epochs) if plan is None or not plan.reviews(epoch))


def _bytes(state: Any) -> int:
    """Return the bytes of all tensors in a state."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_bytes, state.values()))
    return sum(map(_bytes, state)) if isinstance(state, list | tuple) else 0


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave torch's random generators and its number of threads as they were found."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class _Stopwatch(Task):
    """Stands in for a task: random images of its shape, and the time between one batch and the next."""

    def __init__(self, task: Task, execution: Execution, clock: Clock) -> None:
        self._task = task
        self._execution = execution
        self._clock = clock
        self._budget = 0.0
        self._steps: list[float] = []
        facts = task.facts()
        size = -(-facts.samples[0] // task.train_steps())
        images = torch.randn(size, facts.channels, facts.size, facts.size).to(execution.device)
        indices = torch.arange(size, device=execution.device)
        self._batch = Batch(images, indices % facts.classes, indices)

    def time(self, trainer: Trainer, epoch: int, budget: float) -> float:
        """Return the seconds of a step of this epoch, the median of some after a first one that warms up."""
        self._budget = budget
        self._steps = []
        trainer.history = [{}] * epoch
        with suppress(DivergedError):  # the losses of random weights mean nothing, only the clock is read
            trainer.epoch()
        return median(self._steps)

    def time_evaluation(self, network: nn.Module) -> float:
        """Return the seconds of evaluating an image, after a first batch that warms up."""
        network.eval()
        with torch.no_grad(), self._execution.autocast():
            for _ in range(2):
                before = self._now()
                network(self._execution.arrange(self._batch.images))
        return (self._now() - before) / len(self._batch.images)

    def train_batches(self, order: torch.Generator, augmentation: torch.Generator) -> Iterator[Batch]:
        """Yield one batch again and again, and note when it is asked for."""
        yield self._batch
        began = before = self._now()
        while len(self._steps) < MOST_STEPS and (not self._steps or before - began < self._budget):
            yield self._batch
            now = self._now()
            self._steps.append(now - before)
            before = now

    def evaluate(self, forward: Callable[[Tensor], Output], part: Part) -> Mapping[str, float]:
        """Measure nothing: the evaluation is timed by itself."""
        return {}

    def facts(self) -> TaskFacts:
        """Say what the task says."""
        return self._task.facts()

    def load(self, device: torch.device) -> None:
        """Read nothing."""

    def fingerprint(self) -> str:
        """Say what the task says."""
        return self._task.fingerprint()

    @property
    def targets(self) -> Tensor:
        """The classes of the batch ``[B]``."""
        return self._batch.targets

    def train_steps(self) -> int:
        """Say so many that all timed steps of a review epoch review, however few the task has."""
        return MANY_STEPS

    def criterion(self, student: Output, batch: Batch) -> Tensor:
        """Return the task's loss."""
        return self._task.criterion(student, batch)

    def _now(self) -> float:
        self._execution.synchronize()
        return self._clock()
