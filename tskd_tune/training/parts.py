"""What carries out the steps of a training, and what such an engine computes with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Out, Saved
from tskd_tune.distillers.base import Distiller
from tskd_tune.networks.base import Network
from tskd_tune.tasks.base import Draw, Feed, Objective
from tskd_tune.teaching.base import TeacherMethod
from tskd_tune.training.compute import Compute
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.steps import StepKind


class Engine(Protocol):
    """What carries out the steps of an epoch and keeps the running sums of the losses on the device.

    Attributes:
        name: what a row calls the engine.
        reason: why this engine was chosen, in words; empty where a caller chose it.
        slow_steps: how many steps of a kind take longer than those after them.
    """

    name: str
    reason: str
    slow_steps: int

    @property
    def inexact(self) -> Collection[str]:
        """What rounds differently from run to run, in words, although the kernels are deterministic."""

    def begin(self) -> None:
        """Start the sums of an epoch at zero."""

    def step(self, feed: Feed, draw: Draw, kind: StepKind) -> None:
        """Make the batch of a draw on the device and take one step; only a look waits for the device."""

    def update(self, batch: AnyBatch, kind: StepKind) -> Mapping[str, Tensor]:
        """Take one step on a batch that is on the device.

        Returns:
            The losses by name, as in `means`: scalars without gradient, on the device.
        """

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps of the epoch: the only time that an epoch waits for the device.

        ``loss`` is the sum of all losses, ``loss_<name>`` each of them, a mean over the steps that had it.
        """

    def shown(self) -> Mapping[str, float]:
        """Return what the look of the epoch showed, by name; empty without a look."""

    def state_dict(self) -> Saved:
        """Return the sums, so that an epoch can go on in another process."""

    def load_state_dict(self, state: Saved) -> None:
        """Go on with saved sums."""

    def forget(self) -> None:
        """Rely no longer on where the tensors of the training are: a state was loaded."""


@dataclass(frozen=True)
class Parts(Generic[Out]):
    """What a step computes with.

    Attributes:
        student: the network that is trained; a teacher, where a teacher is trained.
        teacher: the network above the student; None where there is none.
        distiller: the losses beside the task's.
        review: the reviews, if any.
        objective: the losses of the task.
        compute: where and how precisely a step is computed.
        optimizers: what updates the parameters.
    """

    student: Network[Out]
    teacher: nn.Module | None
    distiller: Distiller[Out] | TeacherMethod[Out]
    review: Reviewing | None
    objective: Objective[Out]
    compute: Compute
    optimizers: Sequence[torch.optim.Optimizer]


EngineFactory: TypeAlias = Callable[["Parts[Out]"], Engine]
"""Makes the engine of a training from what its steps compute with."""
