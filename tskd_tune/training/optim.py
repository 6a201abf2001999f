"""Stochastic gradient descent as the field uses it; the learning rate depends on the epoch number alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with drops of the learning rate.

    Attributes:
        lr: the first learning rate.
        milestones: the epochs at which the rate drops by ``gamma``.
        convention: ``at``: a milestone is the first epoch at the lower rate; ``after``: the last at the higher.
    """

    lr: float
    milestones: Sequence[int]
    gamma: float
    momentum: float
    nesterov: bool
    weight_decay: float
    convention: Literal["at", "after"] = "at"

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        late = 1 if self.convention == "after" else 0
        return self.lr * self.gamma ** sum(epoch >= milestone + late for milestone in self.milestones)

    def share(self, epoch: int) -> float:
        """Return the epoch's learning rate as a share of the first."""
        return self.rate(epoch) / self.lr

    def optimizer(self, groups: Iterable[Sequence[nn.Parameter]]) -> torch.optim.Optimizer:
        """Build the optimizer over the non-empty groups of parameters."""
        named: list[dict[str, Any]] = [{"params": list(group)} for group in groups if group]
        return torch.optim.SGD(
            named, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )
