"""Targets and batches like those of a task, for building and timing parts before data are loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from tskd_tune.contracts import Batch
from tskd_tune.tasks.base import TaskFacts


def stand_in_targets(facts: TaskFacts) -> Tensor:
    """Return targets as those of the training set might be, for building parts before data are loaded.

    For classification these are classes, ``[N]``, otherwise zeros, ``[N, outputs]``.
    """
    return _targets(facts, torch.arange(facts.samples[0]))


def stand_in_batch(facts: TaskFacts, size: int, device: torch.device) -> Batch:
    """Return a batch of random samples with the shapes of a task's, drawn from torch's global generator."""
    indices = torch.arange(size, device=device)
    return Batch(torch.randn(size, *facts.image).to(device), _targets(facts, indices), indices)


def _targets(facts: TaskFacts, indices: Tensor) -> Tensor:
    return indices % facts.outputs if facts.classes else torch.zeros(len(indices), facts.outputs, device=indices.device)
