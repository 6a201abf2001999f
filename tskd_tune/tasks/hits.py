"""Which samples of a part a network gets right: the basis of what is said about other samples than these.

An objective whose metric is the share of samples that are right is `Scored`. Others, such as detection and regression,
have no such answer for a single sample, and nothing is kept of them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Out, Output
from tskd_tune.metrics import Metric

Out_contra = TypeVar("Out_contra", bound=Output, contravariant=True)


@runtime_checkable
class Scored(Protocol[Out_contra]):
    """An objective that is right or wrong about each sample; the indices of a part's batches count from 0."""

    def hit_metric(self) -> Metric:
        """Return the metric that is the share of the samples that are right, in percent."""

    def hits(self, output: Out_contra, batch: AnyBatch) -> Tensor:
        """Return whether each sample of a batch is right ``[B]``; nothing waits for the device."""


@final
class Hits(Generic[Out]):
    """Whether a network is right about each sample of a part; the answers stay on the device until asked for."""

    def __init__(self, scored: Scored[Out], targets: Tensor) -> None:
        """Begin with no sample right; ``targets`` are those of all samples of the part, in order, on the device."""
        self.scored = scored
        self.targets = targets
        # Workers add their numbers, so these are numbers and no truth values.
        self._right = torch.zeros(len(targets), dtype=torch.int32, device=targets.device)

    def update(self, output: Out, batch: AnyBatch) -> None:
        """Take what a network computed from a batch of the part."""
        self._right.index_copy_(0, batch.indices, self.scored.hits(output, batch).to(torch.int32))

    def merge(self, add: Callable[[Sequence[Tensor]], None]) -> None:
        """Take in the answers of all workers; each sample was answered by one of them."""
        add([self._right])

    def packed(self) -> str:
        """Return eight samples a byte, the first in the highest bit, in base64; this waits for the device.

        A part of N samples has ceil(N / 8) bytes; the bits after the last sample are 0.
        """
        return base64.b64encode(np.packbits(self._right.cpu().numpy().astype(bool)).tobytes()).decode()
