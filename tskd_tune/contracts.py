"""The data that networks, tasks and distillers exchange: batches, and a network's output for a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeAlias, final

import torch
from torch import Tensor, nn
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


@final
@dataclass(frozen=True)
class Boxes:
    """The boxes of a batch of B images, padded to M boxes an image; tensors only, so that they can be made on a device.

    Attributes:
        corners: ``[B, M, 4]``, x1, y1, x2, y2 in pixels of the padded images of the batch; zeros where padded.
        labels: ``[B, M]``, the class of each box, 0 to outputs - 1, or 0 where boxes have no class; -1 where padded.
        crowd: ``[B, M]``, bool: a region of many objects, as COCO marks them: never a training target, and ignored by
            the evaluator.
        counts: ``[B]``, the number of boxes of each image, crowds included; these come first in their row.
        scores: ``[B, M]``, how sure a detector is of each box; None for the truth.
    """

    corners: Tensor
    labels: Tensor
    crowd: Tensor
    counts: Tensor
    scores: Tensor | None = None

    @classmethod
    def padded(
        cls,
        corners: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        scores: Sequence[Tensor] | None = None,
        crowd: Sequence[Tensor] | None = None,
    ) -> Boxes:
        """Join the boxes of B images, at least one.

        Args:
            corners: of each image ``[n, 4]``, n may be 0.
            labels: of each image ``[n]``; None: the boxes have no class.
            scores: of each image ``[n]``.
            crowd: of each image ``[n]``, bool; None: no box is a crowd.

        >>> Boxes.padded([torch.zeros(0, 4), torch.tensor([[2.0, 1.0, 5.0, 9.0]])]).labels
        tensor([[-1],
                [ 0]])
        """
        device, numbers = corners[0].device, [len(one) for one in corners]

        def joined(of: Sequence[Tensor], padding: float) -> Tensor:
            return nn.utils.rnn.pad_sequence(list(of), batch_first=True, padding_value=padding)

        classes = [torch.zeros(n, dtype=torch.long, device=device) for n in numbers] if labels is None else labels
        crowds = [torch.zeros(n, dtype=torch.bool, device=device) for n in numbers] if crowd is None else crowd
        return cls(
            corners=joined(corners, 0),
            labels=joined(classes, -1),
            crowd=joined(crowds, 0),
            counts=torch.tensor(numbers, device=device),
            scores=None if scores is None else joined(scores, 0),
        )

    @property
    def valid(self) -> Tensor:
        """``[B, M]``, bool: what is a box, and no padding."""
        return torch.arange(self.labels.shape[1], device=self.counts.device) < self.counts[:, None]

    def of_images(self) -> list[Tensor]:
        """Return the corners ``[n, 4]`` of each image, without padding; this waits for the device."""
        return [corners[:count] for corners, count in zip(self.corners, self.counts.tolist(), strict=True)]


@dataclass(frozen=True)
class Detected(Output):
    """The output of a detector for a batch of B images.

    Attributes:
        features: see `Output`; the stages of the backbone (``stage1`` to ``stage4``), then the levels of the pyramid
            (``fpn0``, the finest, to ``fpn3``, and ``fpn_pool`` where there is one).
        preactivations: see `Output`.
        losses: the detector's own losses by name: ``classifier``, ``box``, ``objectness``, ``rpn_box``; empty in eval
            mode, and without targets.
        proposals: regions that may hold an object, without classes and without gradient: in eval mode, and in train
            mode without targets, all that the region proposal network found; with targets the regions that the box
            head learned from, drawn from these and the true boxes.
        detections: in eval mode the boxes found, with classes and scores; in train mode none (M = 0).
        classify: maps boxes of the B images to the class logits of the network's own box head,
            ``[sum of counts, outputs + 1]``, image after image, background in column 0, with gradient.
    """

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    proposals: Boxes
    detections: Boxes
    classify: Callable[[Boxes], Tensor]

    def detached(self) -> Self:
        """Return the output cut off from the network that made it."""
        return replace(
            self,
            features=_detached(self.features),
            preactivations=_detached(self.preactivations),
            losses=_detached(self.losses),
            classify=lambda boxes: self.classify(boxes).detach(),
        )


Out = TypeVar("Out", bound=Output, default=Classified)
"""The output that a network computes, and that the losses and metrics of a task read; by default `Classified`."""
Out_co = TypeVar("Out_co", bound=Output, default=Classified, covariant=True)
"""`Out` for networks: a network that computes an output can stand where one is asked for that computes any output."""


T = TypeVar("T", default=Tensor)
"""What the targets of a batch are; by default a tensor, such as the classes ``[B]``."""


@dataclass(frozen=True)
class Batch(Generic[T]):
    """B augmented, normalized images ``[B, C, H, W]``, their targets and sample indices ``[B]``.

    Attributes:
        images: the images, of one size; smaller ones are padded at the right and at the bottom.
        targets: the target of each sample: the classes ``[B]``, or `Boxes` for detection.
        indices: the position of each sample in the training set, independent of the order in an epoch.
        sizes: ``[B, 2]``, height and width of each image before it was padded; None where no image is padded.
    """

    images: Tensor
    targets: T
    indices: Tensor
    sizes: Tensor | None = None


AnyBatch: TypeAlias = Batch[Any]
"""A batch with any targets: what a contract hands on without reading the targets."""


def inputs_of(network: nn.Module, images: Tensor, batch: AnyBatch) -> tuple[Tensor] | tuple[Tensor, AnyBatch]:
    """Return the arguments of a network's forward: the images, and the batch where the network takes it."""
    return (images, batch) if getattr(network, "takes_batch", False) else (images,)


@dataclass(frozen=True)
class Shapes:
    """The shapes of a network's output, without the batch dimension, from one test forward pass.

    Attributes:
        logits: the shape of the logits; empty for an output that has none.
        features: stage name -> the shape of the feature map.
        preactivations: stage name -> the shape of the map before the activation.
        embedding: the shape of the embedding; empty for an output that has none.
        boxes: whether the output has boxes: proposals, detections and what classifies them.
    """

    logits: tuple[int, ...]
    features: Mapping[str, tuple[int, ...]]
    preactivations: Mapping[str, tuple[int, ...]]
    embedding: tuple[int, ...]
    boxes: bool = False

    @classmethod
    def of(cls, output: Output) -> Shapes:
        """Return the shapes of an output."""
        classified = output if isinstance(output, Classified) else None
        return cls(
            logits=() if classified is None else tuple(classified.logits.shape[1:]),
            features={stage: tuple(map_.shape[1:]) for stage, map_ in output.features.items()},
            preactivations={stage: tuple(map_.shape[1:]) for stage, map_ in output.preactivations.items()},
            embedding=() if classified is None else tuple(classified.embedding.shape[1:]),
            boxes=isinstance(output, Detected),
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
        targets: ``[N]``, the class of every training sample, in the order of the sample indices; empty where a sample
            has no class of its own, as in detection.
        teacher_norms: stage name -> the batch norm right before the stage's pre-activation.
        varying: whether the task's images have different sizes; the shapes are then those of one example.
    """

    student: Shapes
    teacher: Shapes
    classes: int
    targets: Tensor
    teacher_norms: Mapping[str, BatchNormStatistics] = field(default_factory=dict)
    varying: bool = False

    @property
    def samples(self) -> int:
        """The number of training samples, N."""
        return len(self.targets)
