"""What networks, tasks and distillers exchange: batches, and what a network computes from a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import torch
from torch import Tensor

STEM = "stem"
"""The name of the stage that comes before the first stage of blocks."""

# What a checkpoint holds, by name: tensors and plain values, as `torch.save` writes them to a file.
Saved = dict[str, Any]


def exact(values: Tensor) -> Tensor:
    """Return the values in float32 at least: what a loss is computed in, also under autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted(weight: Tensor, loss: Tensor) -> Tensor:
    """Return ``weight * loss`` in the loss's dtype, rounded as ``float(weight) * loss`` would be.

    A weight that changes from epoch to epoch is a buffer of no dimensions in float64. A captured graph reads the buffer
    at every replay; a Python float would stay what it was when the graph was captured.
    """
    return weight.to(loss.dtype) * loss


def varying(value: float) -> Tensor:
    """Return a number of no dimensions, in float64, that is filled anew in place: the value of a buffer."""
    return torch.tensor(value, dtype=torch.float64)


class Output(ABC):
    """What a network found in a batch of B images: what a review compares, whatever the network is trained for.

    Attributes:
        features: stage name -> ``[B, C, H, W]``, shallow to deep, as the field taps them: after the
            activation in residual nets, the raw sums of the blocks in wide residual nets.
        preactivations: stage name -> ``[B, C, H, W]``, the same stages before their activation.
    """

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]

    @abstractmethod
    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""


@final
@dataclass(frozen=True)
class Classified(Output):
    """What a network for classification found in a batch of B images.

    Attributes:
        logits: ``[B, classes]``.
        features: see `Output`.
        preactivations: see `Output`.
        embedding: ``[B, D]``, the pooled vector that the classifier reads.
    """

    logits: Tensor
    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]
    embedding: Tensor

    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""
        return replace(
            self,
            logits=self.logits.detach(),
            features={stage: map_.detach() for stage, map_ in self.features.items()},
            preactivations={stage: map_.detach() for stage, map_ in self.preactivations.items()},
            embedding=self.embedding.detach(),
        )


@dataclass(frozen=True)
class Batch:
    """B augmented, normalized images ``[B, C, H, W]``, their targets ``[B]`` and sample indices ``[B]``.

    An index names the sample in the training part, whatever the order of the epoch.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class Shapes:
    """The shapes, without the batch dimension, that one dry forward of a network found."""

    logits: tuple[int, ...]
    features: Mapping[str, tuple[int, ...]]
    preactivations: Mapping[str, tuple[int, ...]]
    embedding: tuple[int, ...]

    @classmethod
    def of(cls, output: Classified) -> Shapes:
        """Read the shapes off an output."""
        return cls(
            logits=tuple(output.logits.shape[1:]),
            features={stage: tuple(map_.shape[1:]) for stage, map_ in output.features.items()},
            preactivations={stage: tuple(map_.shape[1:]) for stage, map_ in output.preactivations.items()},
            embedding=tuple(output.embedding.shape[1:]),
        )


@dataclass(frozen=True)
class BatchNormStatistics:
    """The affine parameters ``[C]`` of a stage's last batch norm: what a margin is computed from."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Probe:
    """What a distiller may know when it is built: shapes, statistics, the number of samples.

    Attributes:
        student: the student's shapes.
        teacher: the teacher's shapes.
        classes: the number of classes.
        targets: ``[N]``, the class of every training sample, in the order of the sample indices.
        teacher_norms: stage name -> the batch norm right before the stage's pre-activation.
    """

    student: Shapes
    teacher: Shapes
    classes: int
    targets: Tensor
    teacher_norms: Mapping[str, BatchNormStatistics] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """The number of training samples, N."""
        return len(self.targets)
