"""Observers watch a training without changing what is trained.

Those that an experiment names are components, which add numbers to the history. The package's own observers write what
a training leaves: history lines, checkpoints, W&B's numbers, and the reason in the row of a training that diverged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.contracts import Output
from tskd_tune.errors import DivergedError
from tskd_tune.metrics import Part
from tskd_tune.networks.base import Network
from tskd_tune.registry import Registry
from tskd_tune.tasks.base import Feed, TaskFacts
from tskd_tune.training.compute import Compute
from tskd_tune.training.foreign import numbers_by_name
from tskd_tune.training.record import Record


class Data(Protocol):
    """The data of a training, which an observer may show to networks."""

    def facts(self) -> TaskFacts:
        """Return shapes and numbers of samples."""

    def training(self, device: torch.device) -> Feed:
        """Open the training set."""

    def evaluation(self, part: Part, device: torch.device) -> Feed:
        """Open the validation or the test set."""


class Training(Protocol):
    """What an observer may look at; `tskd_tune.training.trainer.Trainer` is one."""

    @property
    def student(self) -> Network[Output]:
        """The network that is trained."""

    @property
    def teacher(self) -> nn.Module | None:
        """The network above the student; None where there is none."""

    @property
    def compute(self) -> Compute:
        """Where and how precisely the training computes."""

    @property
    def task(self) -> Data:
        """The data; a `tskd_tune.tasks.base.Task` is such data."""

    @property
    def next_epoch(self) -> int:
        """The number of the epoch that is being trained, from 0; in `Observer.ended` of the epoch that comes next."""


class Observer:
    """Watches a training; an observer overrides the methods that it needs.

    A constructor takes options only, as keyword-only arguments. A training has the same bits with and without its
    observers, so an observer leaves networks, modes, gradients and optimizers as it found them. What an observer draws
    from global generators changes nothing. Its time is not counted as time of the training. After a resume within an
    epoch an observer has missed the steps before.
    """

    def check(self, training: Training) -> None:
        """Called once before anything is trained, and before data are read, to refuse options that do not fit.

        Raises:
            InputError: an option does not fit the networks or the facts of the data.
        """

    def begun(self, training: Training) -> None:
        """Called when an epoch begins, before the first step."""

    def stepped(self, training: Training) -> None:
        """Called after each step; the gradients of the step are still there. Waiting for the device slows training."""

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Called when an epoch has ended and was evaluated.

        Args:
            training: the training.
            record: what the epoch showed.

        Returns:
            Numbers that the history line of the epoch shall have too, by name; a name must not be taken.
        """
        return {}

    def recorded(self, training: Training, record: Record) -> None:
        """Called when the history has an epoch; an interrupted training may go on from here.

        Args:
            training: the training.
            record: the record of the epoch, with the numbers of all observers.
        """

    def diverged(self, training: Training, error: DivergedError) -> None:
        """Called by `tskd_tune.training.lockstep.advance` when the training has diverged; the epoch is not recorded."""


class Observers(list[Observer]):
    """The observers of a training, in the order in which each of them is called."""

    def begun(self, training: Training) -> None:
        """Tell that an epoch begins."""
        for observer in self:
            observer.begun(training)

    def stepped(self, training: Training) -> None:
        """Tell of a step."""
        for observer in self:
            observer.stepped(training)

    def ended(self, training: Training, record: Record) -> Record:
        """Tell that an epoch has ended, and return its record with the numbers of all observers."""
        whole = record
        for observer in self:
            found = observer.ended(training, record)
            whole = whole.with_numbers(numbers_by_name(found, f"observe: {type(observer).__name__}.ended"))
        return whole

    def recorded(self, training: Training, record: Record) -> None:
        """Tell that the history has an epoch."""
        for observer in self:
            observer.recorded(training, record)

    def diverged(self, training: Training, error: DivergedError) -> None:
        """Tell that the training has diverged."""
        for observer in self:
            observer.diverged(training, error)


OBSERVERS: Registry[Observer] = Registry("observers", Observer)


@OBSERVERS.register("gradient_norms", source="the Euclidean norm of the gradient of all losses on the student")
class GradientNorms(Observer):
    """Show how large the student's gradients are: ``gradient_mean`` and ``gradient_max`` in each line of the history.

    Both are taken over the steps of the epoch. A norm that grows before a training diverges, or a few steps with much
    larger norms than the others, point to a learning rate or a lambda that is too large.
    """

    def __init__(self, *, every: PositiveInt = 1) -> None:
        """Choose the steps.

        Args:
            every: measure the first step of an epoch and each ``every``-th step after; 1: all steps.
        """
        self._every = every
        self._norms: list[Tensor] = []
        self._steps = 0

    def begun(self, training: Training) -> None:
        """Forget the epoch before."""
        self._norms, self._steps = [], 0

    def stepped(self, training: Training) -> None:
        """Measure the gradient of the step; the norm stays on the device."""
        if self._steps % self._every == 0:
            self._norms.append(norm(training.student.parameters()))
        self._steps += 1

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Return the mean and the largest norm; nothing after an epoch of which no step was measured."""
        if not self._norms:
            return {}
        norms = torch.stack(self._norms)
        mean, largest = torch.stack([norms.mean(), norms.max()]).tolist()
        return {"gradient_mean": mean, "gradient_max": largest}


@torch.no_grad()
def norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the Euclidean norm of the gradients of all parameters together, a scalar on their device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
