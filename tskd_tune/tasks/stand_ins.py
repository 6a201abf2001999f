"""Targets and batches like those of a task, for building and timing parts before data are loaded."""

from __future__ import annotations

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Batch, Boxes
from tskd_tune.tasks.base import TaskFacts


def stand_in_targets(facts: TaskFacts) -> Tensor:
    """Return targets as those of the training set might be, for building parts before data are loaded.

    For classification these are classes, ``[N]``; for detection there are none, ``[0]``; otherwise zeros,
    ``[N, outputs]``.
    """
    if facts.boxes:
        return torch.zeros(0, dtype=torch.long)
    return _targets(facts, torch.arange(facts.samples[0]))


def stand_in_batch(
    facts: TaskFacts, size: int, device: torch.device, shape: tuple[int, int, int] | None = None
) -> AnyBatch:
    """Return a batch of random samples with the shapes of a task's, drawn from torch's global generator.

    For detection each image has one box.

    Args:
        facts: what is known of the task.
        size: the number of samples.
        device: where the batch is made.
        shape: channels, height and width of an image; None: those of `TaskFacts.probe`.
    """
    indices = torch.arange(size, device=device)
    images = torch.randn(size, *(shape or facts.probe)).to(device)
    if not facts.boxes:
        return Batch(images, _targets(facts, indices), indices)
    height, width = images.shape[2:]
    box = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]], device=device)
    boxes = Boxes.padded([box] * size, [index[None] % facts.outputs for index in indices])
    return Batch(images, boxes, indices, torch.tensor([[height, width]] * size, device=device))


def _targets(facts: TaskFacts, indices: Tensor) -> Tensor:
    return indices % facts.outputs if facts.classes else torch.zeros(len(indices), facts.outputs, device=indices.device)
