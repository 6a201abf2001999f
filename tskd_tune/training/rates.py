"""Schedules of the learning rate, by name: each is a pure function of the epoch, or of the epoch and the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from tskd_tune.registry import Registry

Floor = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Drops:
    """The drops of the rate that a training states beside its schedule; only ``steps`` uses them.

    Attributes:
        milestones: the epochs at which the rate drops by ``gamma``.
        convention: ``at``: a milestone is the first epoch at the lower rate; ``after``: the last at the higher.
    """

    milestones: Sequence[int]
    gamma: float
    convention: Literal["at", "after"] = "at"


class RateSchedule(ABC):
    """How the learning rate falls, as a share of the first one."""

    @abstractmethod
    def share(self, epoch: float, start: float, end: float) -> float:
        """Return the rate as a share of the first.

        Args:
            epoch: the time in epochs, from 0; not an integer within an epoch of a schedule by step.
            start: the epoch at which the warm-up ends; 0 without a warm-up.
            end: the number of epochs.
        """


RATE_SCHEDULES: Registry[RateSchedule] = Registry("rate_schedules", RateSchedule)
"""Schedules, each made from the training's `Drops`."""


def _progress(epoch: float, start: float, end: float) -> float:
    return max(0.0, epoch - start) / (end - start)


@RATE_SCHEDULES.register("steps", source="torch.optim.lr_scheduler.MultiStepLR")
class Steps(RateSchedule):
    """The rate drops by ``training.gamma`` at each of ``training.milestones``."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops

    def share(self, epoch: float, start: float, end: float) -> float:
        """Return the product of the drops so far; milestones count from the first epoch, warm-up included."""
        late = 1 if self._drops.convention == "after" else 0
        return self._drops.gamma ** sum(epoch >= milestone + late for milestone in self._drops.milestones)


@RATE_SCHEDULES.register("constant", source="no change of the rate")
class Constant(RateSchedule):
    """The rate stays as it is."""

    def __init__(self, drops: Drops) -> None:
        del drops

    def share(self, epoch: float, start: float, end: float) -> float:
        """Return one."""
        return 1.0


@RATE_SCHEDULES.register("cosine", source="Loshchilov & Hutter 2017, arXiv 1608.03983; CosineAnnealingLR of torch")
class Cosine(RateSchedule):
    """The rate falls along half a cosine from the end of the warm-up, and would be at the floor after the last epoch.

    Args:
        drops: not used.
        floor: the rate after the last epoch, as a share of the first rate.
    """

    def __init__(self, drops: Drops, *, floor: Floor = 0.0) -> None:
        del drops
        self._floor = floor

    def share(self, epoch: float, start: float, end: float) -> float:
        """Return a point of half a cosine."""
        return self._floor + (1 - self._floor) * (1 + math.cos(math.pi * _progress(epoch, start, end))) / 2


@RATE_SCHEDULES.register("linear", source="torch.optim.lr_scheduler.LinearLR")
class Linear(RateSchedule):
    """The rate falls by equal amounts from the end of the warm-up, and would be at the floor after the last epoch.

    Args:
        drops: not used.
        floor: the rate after the last epoch, as a share of the first rate.
    """

    def __init__(self, drops: Drops, *, floor: Floor = 0.0) -> None:
        del drops
        self._floor = floor

    def share(self, epoch: float, start: float, end: float) -> float:
        """Return a point of a straight line."""
        return 1 - (1 - self._floor) * _progress(epoch, start, end)


@RATE_SCHEDULES.register("exponential", source="torch.optim.lr_scheduler.ExponentialLR")
class Exponential(RateSchedule):
    """The rate falls by the same factor in each epoch, from the end of the warm-up.

    Args:
        drops: not used.
        factor: the rate of an epoch, divided by the rate of the epoch before.
    """

    def __init__(self, drops: Drops, *, factor: Annotated[float, Field(gt=0, lt=1)] = 0.98) -> None:
        del drops
        self._factor = factor

    def share(self, epoch: float, start: float, end: float) -> float:
        """Return a power of the factor."""
        return float(self._factor ** max(0.0, epoch - start))
