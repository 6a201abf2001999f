"""The contenders of the suites: the package's training, the reference loop, and the parts of the reference loop."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from benchmarks.clocks import Phases, now, since
from benchmarks.reference import Batch
from benchmarks.reference_networks import Features
from benchmarks.rows import Check, Spent
from benchmarks.workload import Variant, Workload
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record
from tskd_tune.training.trainer import Trainer

GENERAL, REVIEW, LOOK, END = "general", "review", "look", "end"
"""A look is the first step of a review, which also measures gradients; the end of an epoch is its evaluation."""
WARM_BATCHES = {"cpu": 0, "cuda": 30}
"""Batches of the reference that are not timed, until its workers' queues are as full as they stay."""

Result = TypeVar("Result")


class StepClock(Observer):
    """Reads the clocks at the ends of some steps; only there it waits for the device.

    Attributes:
        marks: the readings of the last epoch: of its beginning, after each of the steps, and of its end.
    """

    def __init__(self, after: Sequence[int]) -> None:
        """Read the clocks after these numbers of steps."""
        self.marks: list[Spent] = []
        self._after, self._steps = set(after), 0

    def begun(self, training: Training) -> None:
        """Read the clocks before the first step."""
        training.compute.synchronize()
        self._steps, self.marks = 0, [now()]

    def stepped(self, training: Training) -> None:
        """Read the clocks after some of the steps."""
        self._steps += 1
        if self._steps in self._after:
            training.compute.synchronize()
            self.marks.append(now())

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Read the clocks after the evaluation."""
        training.compute.synchronize()
        self.marks.append(now())
        return {}


class Ours:
    """Epochs of a training of the package, as `Trainer.epoch` trains them."""

    def __init__(self, workload: Workload, variant: Variant, device: torch.device) -> None:
        """Build the training."""
        self.trainer = workload.trainer(variant, device)
        self._workload = workload
        first = [1, workload.reviews] if workload.reviews else []
        self._clock = StepClock([*first, workload.steps])
        self.trainer.observers.append(self._clock)

    def prepare(self) -> None:
        """Train two epochs, after which graphs are captured."""
        for _ in range(2 if self.trainer.compute.device.type == "cuda" else 1):
            self.run()

    def run(self) -> Phases:
        """Train an epoch, and return the mean time of a step of each kind, and the time of the end of the epoch."""
        gc.collect()
        self.trainer.begin(self._workload.epoch)
        self.trainer.epoch()
        workload = self._workload
        spans = [later + earlier * -1 for earlier, later in pairwise(self._clock.marks)]
        found = {GENERAL: spans[-2] * (1 / workload.general), END: spans[-1]}
        if workload.reviews:
            found |= {LOOK: spans[0], REVIEW: spans[1] * (1 / (workload.reviews - 1))}
        return found


class Reference:
    """Steps of the reference loop, with a loader that begins before the clock does."""

    def __init__(self, workload: Workload, trainer: Trainer, device: torch.device, workers: int) -> None:
        """Begin with the weights of a training."""
        self.loop = workload.loop(trainer, device)
        self.images = workload.images()
        self.workload, self.device, self.workers = workload, device, workers

    def prepare(self) -> None:
        """Take one step of each kind."""
        self._steps(1, 1 if self.workload.reviews else 0)

    def run(self) -> Phases:
        """Take the steps of an epoch, and return the mean time of a general step and of a review step."""
        gc.collect()
        return {**self._steps(self.workload.general, max(self.workload.reviews - 1, 0)), **self._end()}

    def _end(self) -> Phases:
        """Evaluate as many images as the workload does; what a batch took its worker is counted by the loop."""
        if not self.workload.tested:
            return {}
        batches = -(-self.workload.tested // self.workload.batch_size)
        seconds: list[float] = []
        loader = iter(self.images.loader(self.workload.batch_size, batches + 1, self.workers, self.device))
        next(loader)

        def counted() -> Iterator[Batch]:
            for batch in loader:
                seconds.append(batch[3])
                yield batch

        start = now()
        self.loop.evaluate(counted())
        beside = Spent(0.0, sum(seconds) if self.workers else 0.0)
        return {END: (since(start) + beside) * (self.workload.tested / (batches * self.workload.batch_size))}

    def _steps(self, general: int, reviews: int) -> Phases:
        warm = WARM_BATCHES[self.device.type] if self.workers else 0
        kinds = [None] * warm + [GENERAL] * general + [REVIEW] * reviews
        loader = iter(self.images.loader(self.workload.batch_size, len(kinds), self.workers, self.device))
        first = next(loader) if self.workers else None  # outside of the clock, as workers need time to start
        spent: dict[str, list[Spent]] = {kind: [] for kind in (REVIEW, GENERAL)}
        for kind in kinds:
            start = now()
            batch: Batch = next(loader) if first is None else first
            first = None
            self.loop.step(batch[0], batch[1], review=kind == REVIEW)
            beside = Spent(0.0, batch[3] if self.workers else 0.0)
            if kind is not None:
                spent[kind].append(since(start) + beside)
        return {kind: _mean(times) for kind, times in spent.items() if times}


@dataclass(frozen=True)
class PartsOfReference:
    """Steps of the reference loop taken apart, each part between two readings of the clocks."""

    reference: Reference

    def prepare(self) -> None:
        """Nothing needs to be prepared: the reference has run."""

    def run(self) -> Phases:
        """Return the mean time of each part, named as in ``review: teacher``."""
        workload, device = self.reference.workload, self.reference.device
        kinds = [REVIEW] * min(max(workload.reviews - 1, 0), 3) + [GENERAL] * min(workload.general, 5)
        loader = iter(self.reference.images.loader(workload.batch_size, len(kinds), 0, device))
        spent: dict[str, list[Spent]] = defaultdict(list)
        for kind in kinds:
            for name, time in self._step(loader, review=kind == REVIEW):
                spent[f"{kind}: {name}"].append(time)
        return {name: _mean(times) for name, times in spent.items()}

    def _step(self, loader: Iterator[Batch], *, review: bool) -> Iterator[tuple[str, Spent]]:
        loop = self.reference.loop
        batch, spent = self._timed(lambda: next(loader))
        yield "loader", spent
        (images, targets), spent = self._timed(lambda: loop.moved(batch[0], batch[1]))
        yield "copy", spent
        taught, spent = self._timed(lambda: loop.taught(images))
        yield "teacher", spent
        past: list[Features] = []
        if review:
            past, spent = self._timed(lambda: loop.recalled(images))
            yield "snapshots", spent
        (logits, loss), spent = self._timed(lambda: loop.loss(images, targets, taught, past))
        yield "student and losses", spent
        _, spent = self._timed(lambda: loop.backward(loss))
        yield "backward", spent
        _, spent = self._timed(loop.update)
        yield "update", spent
        _, spent = self._timed(lambda: loop.measure(logits, targets, loss))
        yield "meters", spent

    def _timed(self, function: Callable[[], Result]) -> tuple[Result, Spent]:
        start = now()
        result = function()
        if self.reference.device.type == "cuda":
            torch.cuda.synchronize()
        return result, since(start)


def check(kind: str, whole: Spent, parts: Phases, device: torch.device, workers: int) -> Check:
    """Compare a step of the reference with its parts.

    On a CPU the CPU seconds of all parts add up, those of the loader's workers included. On a GPU the workers load
    while the loop computes, so a step takes as long as the slower of the two.
    """
    own = {name.removeprefix(f"{kind}: "): spent for name, spent in parts.items() if name.startswith(f"{kind}: ")}
    if device.type == "cpu":
        return Check(kind, whole.cpu, {name: spent.cpu for name, spent in own.items()})
    walls = {name: spent.wall for name, spent in own.items()}
    loading = walls.pop("loader") / max(workers, 1)
    if loading > sum(walls.values()):
        return Check(f"{kind}, which waits for its {workers} workers", whole.wall, {"loader per worker": loading})
    return Check(kind, whole.wall, walls)


def _mean(times: Sequence[Spent]) -> Spent:
    total = Spent(0.0, 0.0)
    for time in times:
        total += time
    return total * (1 / len(times))
