"""Measures networks on the parts of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic

import torch
from torch import nn

from tskd_tune.contracts import Out
from tskd_tune.metrics import Part
from tskd_tune.tasks.base import Feed, Meter, Task
from tskd_tune.training.compute import Compute


def evaluate(network: nn.Module, feed: Feed, meter: Meter[Out], compute: Compute) -> dict[str, float]:
    """Return the metrics of a network on the samples of a feed, in order and without augmentation.

    The network is put into evaluation mode. The device is waited for once, when the meter computes. A feed without
    batches measures nothing.
    """
    network.eval()
    if feed.steps() == 0:
        return {}
    with torch.no_grad(), compute.autocast():
        for draw in feed.draws():
            batch = feed.batch(draw)
            meter.update(network(compute.arrange(batch.images)), batch)
    return meter.compute()


class Evaluations(Generic[Out]):
    """Measures networks on the validation and the test set of a task."""

    def __init__(self, task: Task[Out], compute: Compute) -> None:
        """Open no set yet."""
        self._task = task
        self._compute = compute
        self._feeds: dict[Part, Feed] = {}  # opened once: a streamed feed starts processes

    def metrics(self, network: nn.Module, part: Part) -> Mapping[str, float]:
        """Return the metrics of a network on a part; see `evaluate`."""
        if part not in self._feeds:
            self._feeds[part] = self._task.evaluation(part, self._compute.device)
        return evaluate(network, self._feeds[part], self._task.meter(), self._compute)
