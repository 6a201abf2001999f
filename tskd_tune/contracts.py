"""The data that networks, tasks and distillers exchange: batches, and a network's output for a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import torch
from torch import Tensor
from typing_extensions import TypeVar

STEM = "stem"
"""The name of the stage that comes before the first stage of blocks."""

# The content of a checkpoint by name: tensors and plain values, as `torch.save` writes them to a file.
Saved = dict[str, Any]


def exact(values: Tensor) -> Tensor:
    """Return the values in float32 or float64; losses are computed in this precision, even under autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def weighted(weight: Tensor, loss: Tensor) -> Tensor:
    """Return ``weight * loss`` in the loss's dtype, rounded as ``float(weight) * loss`` would be.

    A weight that changes between epochs is a buffer without dimensions, in float64. A captured CUDA graph reads the
    buffer at every replay; a Python float would keep the value from the time of the capture.
    """
    return weight.to(loss.dtype) * loss


def varying(value: float) -> Tensor:
    """Return a tensor without dimensions, in float64, as the value of a buffer that is changed in place."""
    return torch.tensor(value, dtype=torch.float64)


class Output(ABC):
    """The output of a network for a batch of B images, for any task; a review compares these features.

    Attributes:
        features: stage name -> ``[B, C, H, W]``, shallow to deep, at the usual points: after the activation in residual
            networks, the sums of the blocks without activation in wide residual networks.
        preactivations: stage name -> ``[B, C, H, W]``, the same stages before the activation.
    """

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]

    @abstractmethod
    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""


@final
@dataclass(frozen=True)
class Features(Output):
    """The features of a network for a batch, without what its heads make of them; all that a review needs.

    Attributes:
        features: see `Output`.
        preactivations: see `Output`.
    """

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]

    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""
        return replace(self, features=_detached(self.features), preactivations=_detached(self.preactivations))


@final
@dataclass(frozen=True)
class Classified(Output):
    """The output of a classification network for a batch of B images.

    Attributes:
        logits: ``[B, classes]``.
        features: see `Output`.
        preactivations: see `Output`.
        embedding: ``[B, D]``, the pooled vector, which is the input of the classifier.
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
            features=_detached(self.features),
            preactivations=_detached(self.preactivations),
            embedding=self.embedding.detach(),
        )


def _detached(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {stage: map_.detach() for stage, map_ in maps.items()}


Out = TypeVar("Out", bound=Output, default=Classified)
"""The output that a network computes, and that the losses and metrics of a task read; by default `Classified`."""
Out_co = TypeVar("Out_co", bound=Output, default=Classified, covariant=True)
"""`Out` for networks: a network that computes an output can stand where one is asked for that computes any output."""


@dataclass(frozen=True)
class Batch:
    """B augmented, normalized images ``[B, C, H, W]``, their targets ``[B]`` and sample indices ``[B]``.

    Attributes:
        images: the images, of one size.
        targets: the target of each sample.
        indices: the position of each sample in the training set, independent of the order in an epoch.
        sizes: ``[B, 2]``, height and width of each image before it was padded; None where no image is padded.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    sizes: Tensor | None = None


@dataclass(frozen=True)
class Shapes:
    """The shapes of a network's output, without the batch dimension, from one test forward pass.

    Attributes:
        logits: the shape of the logits; empty for an output that has none.
        features: stage name -> the shape of the feature map.
        preactivations: stage name -> the shape of the map before the activation.
        embedding: the shape of the embedding; empty for an output that has none.
    """

    logits: tuple[int, ...]
    features: Mapping[str, tuple[int, ...]]
    preactivations: Mapping[str, tuple[int, ...]]
    embedding: tuple[int, ...]

    @classmethod
    def of(cls, output: Output) -> Shapes:
        """Return the shapes of an output."""
        classified = output if isinstance(output, Classified) else None
        return cls(
            logits=() if classified is None else tuple(classified.logits.shape[1:]),
            features={stage: tuple(map_.shape[1:]) for stage, map_ in output.features.items()},
            preactivations={stage: tuple(map_.shape[1:]) for stage, map_ in output.preactivations.items()},
            embedding=() if classified is None else tuple(classified.embedding.shape[1:]),
        )


@dataclass(frozen=True)
class BatchNormStatistics:
    """The affine parameters ``[C]`` of a stage's last batch norm; a distiller computes a margin from them."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Probe:
    """The information for building a distiller: shapes, statistics, the number of samples.

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
