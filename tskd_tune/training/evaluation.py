"""Measures a network on a part of the data."""

from __future__ import annotations

import torch
from torch import nn

from tskd_tune.contracts import Out
from tskd_tune.tasks.base import Feed, Meter
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
