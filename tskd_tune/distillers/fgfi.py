"""Fine-grained feature imitation: the student imitates the teacher near the objects (Wang et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from tskd_tune.contracts import AnyBatch, Batch, Boxes, Detected, Probe, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.padded import inside_of, size_of, zeroed
from tskd_tune.distillers.stages import require_stage
from tskd_tune.errors import InputError
from tskd_tune.method.padding import Padding, Size
from tskd_tune.options import DISTINCT

Share = Annotated[float, Field(ge=0, lt=1)]
Several = Annotated[list[PositiveFloat], Field(min_length=1), DISTINCT]
ANCHORS = [64.0, 128.0, 256.0, 512.0]
RATIOS = [0.5, 1.0, 2.0]


@DISTILLERS.register("fgfi", source="Wang et al. 2019, arXiv 1906.03609, section 3; weight and warm-up of their code")
class FGFI(Distiller[Detected]):
    """The squared gap between the teacher's features and the student's adapted ones, at the cells near true boxes.

    With the features s and t of one stage, a 3x3 convolution and a ReLU ``adapt``, and the mask I of
    `imitation_mask`, of which ``N`` cells of the batch are 1::

        weight / (2 N) * sum_{b, i, j} I_bij * sum_c (t_bcij - adapt(s)_bcij)^2

    A batch without objects adds 0. Where a batch is computed in micro-batches, ``N`` is still that of the batch.

    The paper's detectors have one map of features, 16 pixels a cell, and 4 anchors of 3 shapes at each cell; so have
    the defaults. For several levels of a pyramid, use `combined` with a part for each level and its anchors.
    """

    needs = frozenset({Need.FEATURES, Need.BOXES})
    in_pieces = True
    masks = True
    capturable = False
    seen: Tensor

    def __init__(
        self,
        probe: Probe,
        *,
        stage: str = "stage3",
        threshold: Share = 0.5,
        anchors: Several = ANCHORS,
        ratios: Several = RATIOS,
        weight: NonNegativeFloat = 0.01,
        warmup: NonNegativeInt = 400,
    ) -> None:
        """Set the stage, the mask, the loss weight and the length of the warm-up.

        Args:
            stage: the stage, of both networks, whose features are imitated: of the backbone, such as stage3, or a level
                of the pyramid, such as fpn2. The adapted features are never negative.
            threshold: a cell is imitated if the IoU of one of its anchors with a box is larger than this share of the
                largest IoU of the box with any anchor.
            anchors: sides of the square anchors, in pixels.
            ratios: shapes of the anchors, height divided by width, each of the area of the square.
            weight: weight of the imitation loss.
            warmup: number of batches at the start of the training without the loss.

        Raises:
            InputError: a network lacks the stage, or the stage has another size in the teacher.
        """
        super().__init__()
        require_stage(probe, stage, "fgfi")
        given, wanted = probe.student.features[stage], probe.teacher.features[stage]
        if given[1:] != wanted[1:]:
            raise InputError(
                f"distiller: 'fgfi' compares cells, but '{stage}' has {given[1]}x{given[2]} cells in the student and"
                f" {wanted[1]}x{wanted[2]} in the teacher; choose a stage of equal size, or review_kd, which resizes"
            )
        self.adaptation = nn.Sequential(nn.Conv2d(given[0], wanted[0], 3, padding=1), nn.ReLU())
        self.stage = stage
        self.threshold = threshold
        self.anchors, self.ratios = anchors, ratios
        self.weight = weight
        self.warmup = warmup
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self._begun: Tensor | bool = warmup == 0
        self._whole: Batch[Boxes] | None = None

    def begin_step(self, whole: AnyBatch | None) -> None:
        """Count the step, and keep the boxes of its batch, of which the loss of a micro-batch needs the cells."""
        self._begun = self.seen >= self.warmup
        if self.training:
            self.seen += 1
        self._whole = None if whole is None else replace(whole, images=whole.images[:0])

    def forward(self, student: Detected, teacher: Detected, batch: Batch[Boxes]) -> Mapping[str, Tensor]:
        """Return ``{"fgfi": ...}`` from the stage's features ``[B, C, H, W]`` and the true boxes."""
        given, wanted = student.features[self.stage], teacher.features[self.stage]
        inside = inside_of(given, Padding.of(batch))
        guess = self.adaptation(zeroed(given, inside))
        mask = self._mask(batch, size_of(given))
        squares = (exact(wanted) - exact(guess)).square().sum(1).where(mask, 0)
        loss = squares.sum() / (2 * mask.sum()).clamp_min(1)
        if self._whole is not None:
            # The mean over all images of B / (2 N) times the sum of an image, with the images and cells of the batch.
            cells = self._mask(self._whole, size_of(given)).sum()
            loss = squares.sum() * len(self._whole.indices) / (2 * cells * len(given)).clamp_min(1)
        return {"fgfi": self.weight * (loss * self._begun)}

    def _mask(self, batch: Batch[Boxes], size: Size) -> Tensor:
        """Return ``[B, H, W]`` of bool, the cells of maps of a size that are imitated."""
        anchors = anchor_grid(size, size_of(batch.images), self.anchors, self.ratios).to(batch.targets.corners)
        padding = Padding.of(batch)
        inside = None if padding is None else padding.inside(size)
        return imitation_mask(anchors, batch.targets, self.threshold, inside)


def imitation_mask(anchors: Tensor, boxes: Boxes, threshold: float = 0.5, inside: Tensor | None = None) -> Tensor:
    """Return ``[B, H, W]`` of bool: the cells near the objects of each image, which a student imitates.

    With the anchors ``A_ij`` of cell (i, j) and the boxes ``G`` of an image::

        I_ij = 1 if there are g in G and a in A_ij with IoU(a, g) > threshold * max_{i, j, a in A_ij} IoU(a, g)

    Crowds are no objects. A box that no anchor meets marks no cell.

    >>> anchors = torch.tensor([[[[0.0, 0, 4, 4]], [[4.0, 0, 8, 4]], [[8.0, 0, 12, 4]]]])  # 1x3 cells, 1 anchor each
    >>> boxes = Boxes.padded([torch.tensor([[2.0, 0, 7, 4]])])  # IoU with the anchors: 2/7, 3/6 and 0
    >>> imitation_mask(anchors, boxes, 0.5)
    tensor([[[ True,  True, False]]])
    >>> imitation_mask(anchors, boxes, 0.6)
    tensor([[[False,  True, False]]])

    Args:
        anchors: ``[H, W, A, 4]``, the anchors of each cell, x1, y1, x2, y2 in pixels.
        boxes: the true boxes of B images.
        threshold: the share of the largest IoU, from 0 to 1.
        inside: ``[B, H, W]`` of bool; cells of the padding, False, are not marked, and their anchors not compared.
    """
    from torchvision.ops import box_iou

    rows, columns, kinds = anchors.shape[:3]
    masks = []
    for number, (corners, crowd) in enumerate(zip(boxes.of_images(), boxes.crowd, strict=True)):
        objects = corners[~crowd[: len(corners)]].to(anchors.dtype)
        overlaps = box_iou(anchors.reshape(-1, 4), objects).view(rows, columns, kinds, len(objects))
        if inside is not None:
            overlaps = overlaps.where(inside[number, :, :, None, None], 0)
        largest = overlaps.amax((0, 1, 2)) if len(objects) else overlaps.new_zeros(0)
        masks.append((overlaps > threshold * largest).flatten(2).any(2))
    return torch.stack(masks)


def anchor_grid(size: Size, pixels: Size, sides: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Return the anchors of each cell of a map, ``[H, W, A, 4]``, as torchvision's detectors place them.

    Args:
        size: ``(H, W)``, the cells of the map.
        pixels: height and width of the images.
        sides: sides of the square anchors, in pixels.
        ratios: height divided by width of the anchors.
    """
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    generator = AnchorGenerator((tuple(sides),), (tuple(ratios),))
    strides = [torch.tensor(whole // cells) for whole, cells in zip(pixels, size, strict=True)]
    (anchors,) = generator.grid_anchors([list(size)], [strides])
    placed: Tensor = anchors.view(*size, -1, 4)
    return placed
