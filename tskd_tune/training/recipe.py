"""The recipe of a training: which optimizer is made, and its learning rate at each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tskd_tune.registry import Component
from tskd_tune.training.optim import CPU, prepared, set_share
from tskd_tune.training.optimizers import OPTIMIZERS, Setup
from tskd_tune.training.rates import RateSchedule


@dataclass(frozen=True)
class Rising:
    """A linear warm-up of the learning rate.

    Attributes:
        epochs: for how many epochs the rate rises; a part of an epoch where rates change by step.
        start: the rate at the beginning, as a share of the first rate.
    """

    epochs: float
    start: float

    def share(self, epoch: float) -> float:
        """Return the factor of the rate at a time, in epochs."""
        return min(1.0, self.start + (1 - self.start) * epoch / self.epochs)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An optimizer and its learning rate.

    Attributes:
        lr: the first learning rate.
        epochs: the length of the training.
        schedule: how the rate falls.
        warmup: how the rate rises at first; None: no warm-up.
        by_step: whether the rate also changes within an epoch.
        made_by: the optimizer, with its own options.
        momentum: SGD's momentum.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: the weight decay of every optimizer.
    """

    lr: float
    epochs: int
    schedule: RateSchedule
    warmup: Rising | None
    by_step: bool
    made_by: Component
    momentum: float
    nesterov: bool
    weight_decay: float

    def rate(self, epoch: float) -> float:
        """Return the learning rate at a time in epochs, from 0; of an epoch, the rate of its first step."""
        if self.warmup is None:
            return self.lr * self.schedule.share(epoch, 0.0, self.epochs)
        share = self.schedule.share(epoch, float(self.warmup.epochs), self.epochs)
        return self.lr * share * self.warmup.share(epoch)

    def set_rates(self, optimizers: Iterable[torch.optim.Optimizer], epoch: float) -> None:
        """Set the rates of optimizers at a time; each keeps its share of its own first rate."""
        share = self.rate(epoch) / self.lr
        for optimizer in optimizers:
            set_share(optimizer, share)

    def optimizer(self, groups: Iterable[Sequence[nn.Parameter]], device: torch.device = CPU) -> torch.optim.Optimizer:
        """Build the optimizer over the non-empty groups of parameters, which are on the device."""
        trained = [list(group) for group in groups if group]
        setup = Setup(trained, self.lr, self.weight_decay, self.momentum, self.nesterov, device)
        return prepared(OPTIMIZERS.make(self.made_by, setup), device)
