"""A metric of one's own, of which less is better: an objective that measures it, and a task that has the objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from tskd_tune.contracts import Batch, Classified
from tskd_tune.metrics import Metric
from tskd_tune.tasks import Task, TaskFacts, build
from tskd_tune.tasks.base import Objective

BRIER = Metric("brier", "Brier score", "", "min", digits=3)


class Brier(Objective):
    """The squared errors of the probabilities (Brier 1950), as the loss and as the only metric."""

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return the Brier score."""
        return (BRIER,)

    def losses(self, output: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return the mean Brier score of a batch."""
        return {"task": scores(output, batch).mean()}

    def meter(self, facts: TaskFacts) -> Scores:
        """Return a new meter."""
        return Scores()

    def identity(self) -> Mapping[str, str]:
        """Return what the losses are."""
        return {"loss": "brier"}


class Scores:
    """Collects the Brier score of every sample."""

    def __init__(self) -> None:
        """Begin with no sample."""
        self._scores: list[Tensor] = []

    def update(self, output: Classified, batch: Batch) -> None:
        """Add a batch."""
        self._scores.append(scores(output, batch).double())

    def compute(self) -> dict[str, float]:
        """Return the mean of all samples so far."""
        return {BRIER.name: torch.cat(self._scores).mean().item()}


def scores(output: Classified, batch: Batch) -> Tensor:
    """Return the Brier score ``[B]`` of each sample."""
    right = F.one_hot(batch.targets, output.logits.shape[1]).to(output.logits.dtype)
    return (output.logits.softmax(1) - right).square().sum(1)


def scored(*, batch_size: PositiveInt = 8) -> Task:
    """Made-up images, measured by the Brier score alone.

    Args:
        batch_size: images in a training batch.
    """
    return replace(build("synthetic", batch_size=batch_size, size=8, validation=8), objective=Brier())
