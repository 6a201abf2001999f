"""Regression: the mean squared error between what a network gives and the true values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch, Classified, exact
from tskd_tune.metrics import Metric
from tskd_tune.tasks.base import Objective, TaskFacts

MSE = Metric("mse", "MSE", "", "min", digits=5)


@final
class Regression(Objective[Classified]):
    """The mean squared error of the last layer's output, which networks call logits; it is also the only metric."""

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return the mean squared error."""
        return (MSE,)

    def losses(self, output: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean of ``(output - target)^2`` over the batch and the outputs, in float32 at least."""
        return {"task": F.mse_loss(exact(output.logits), batch.targets)}

    def meter(self, facts: TaskFacts) -> SquaredError:
        """Return a new meter of the mean squared error."""
        return SquaredError()


@final
class SquaredError:
    """Sums squared errors on the device; the sum is fetched once."""

    def __init__(self) -> None:
        """Begin with no sample."""
        self._sums: list[Tensor] = []
        self._values = 0

    def update(self, output: Classified, batch: Batch) -> None:
        """Add the output ``[B, outputs]`` and the targets ``[B, outputs]`` of a batch."""
        errors = exact(output.logits) - batch.targets
        self._sums.append(errors.square().double().sum())
        self._values += errors.numel()

    def merge(self, add: Callable[[Sequence[Tensor]], None], device: torch.device) -> None:
        """Take in the sums and the numbers of values of all workers."""
        total = torch.stack([torch.zeros((), dtype=torch.float64, device=device), *self._sums]).sum()
        count = torch.tensor(self._values, device=device)
        add([total, count])
        self._sums, self._values = [total], int(count)

    def compute(self) -> dict[str, float]:
        """Return the mean squared error of all samples so far, of which there must be at least one."""
        return {MSE.name: float(torch.stack(self._sums).sum()) / self._values}
