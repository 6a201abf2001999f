"""What a two-stage detector does with the maps of a batch, by torchvision's parts: propose, classify, learn, detect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from tskd_tune.contracts import Batch, Boxes, Detected, exact

if TYPE_CHECKING:
    from torchvision.models.detection import FasterRCNN

Truth = list[dict[str, Tensor]]
"""The boxes of each image as torchvision takes them: ``boxes`` ``[n, 4]`` and ``labels`` ``[n]``, from 1."""


class Scene:
    """The images of a batch as the heads of a detector see them.

    Attributes:
        levels: level -> ``[B, C, H, W]``, the pyramid of maps, with torchvision's names.
        sizes: height and width of each image, without padding.
    """

    def __init__(
        self, model: FasterRCNN, images: Tensor, levels: Mapping[str, Tensor], batch: Batch[Boxes] | None
    ) -> None:
        """Look at padded images ``[B, channels, H, W]``; without a batch no image is padded."""
        from torchvision.models.detection.image_list import ImageList

        self._model = model
        self._padded: tuple[int, int] = (images.shape[2], images.shape[3])
        sizes = None if batch is None or batch.sizes is None else batch.sizes.tolist()
        self.sizes = [self._padded] * len(images) if sizes is None else [(height, width) for height, width in sizes]
        self.levels = dict(levels)
        self._listed = ImageList(images, self.sizes)

    def propose(self, truth: Truth | None) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals of each image ``[n, 4]``, and in train mode the losses of the proposing network."""
        proposals, losses = self._model.rpn(self._listed, self.levels, truth)
        return proposals, losses

    def classify(self, boxes: Boxes) -> Tensor:
        """Return the class logits of boxes; see `tskd_tune.contracts.Detected.classify`."""
        return self._judged(boxes.of_images())[0]

    def learn(self, truth: Truth, features: Mapping[str, Tensor]) -> Detected:
        """Return the output in train mode, with these features."""
        proposals, found = self.propose(truth)
        regions, _, labels, offsets = self._model.roi_heads.select_training_samples(proposals, truth)
        logits, shifts = self._judged(regions)
        classifier, box = _box_losses(logits, shifts, labels, offsets)
        names = {"objectness": found["loss_objectness"], "rpn_box": found["loss_rpn_box_reg"]}
        drawn = Boxes.padded(regions)
        return Detected(
            features=features,
            preactivations={},
            losses={"classifier": classifier, "box": box, **names},
            proposals=drawn,
            detections=_none(drawn.corners, len(regions)),
            # The logits of these very regions are known.
            classify=lambda boxes: logits if boxes is drawn else self.classify(boxes),
        )

    def detect(self, proposals: Sequence[Tensor]) -> Boxes:
        """Return what is found in the proposals of each image: classes from 0 and scores, the surest first."""
        heads = self._model.roi_heads
        logits, shifts = self._judged(proposals)
        corners, scores, labels = heads.postprocess_detections(logits, shifts, list(proposals), self.sizes)
        return Boxes.padded(corners, [label - 1 for label in labels], scores)

    def explore(self, features: Mapping[str, Tensor]) -> Detected:
        """Return the output in train mode where nothing is known of the images: proposals and no losses."""
        proposals = Boxes.padded(self.propose(self._without_boxes())[0])
        return Detected(features, {}, {}, proposals, _none(proposals.corners, len(self.sizes)), self.classify)

    def _without_boxes(self) -> Truth:
        """Return a truth of no box in any image."""
        some = next(iter(self.levels.values()))
        corners = torch.zeros(0, 4, device=some.device)
        return [{"boxes": corners, "labels": corners.new_zeros(0, dtype=torch.long)} for _ in self.sizes]

    def _judged(self, regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return class logits and shifts of all regions, image after image, in float32 at least."""
        heads = self._model.roi_heads
        # All images have the padded size, so that the strides of the levels are exact.
        pooled = heads.box_roi_pool(self.levels, list(regions), [self._padded] * len(regions))
        logits, shifts = heads.box_predictor(heads.box_head(pooled))
        return exact(logits), exact(shifts)


@final
class Found(Detected):
    """The output of a detector in eval mode: proposals and detections are computed when they are first read.

    A teacher that gives its features alone so costs no more than its backbone and its pyramid.
    """

    _scene: Scene

    def __init__(self, features: Mapping[str, Tensor], scene: Scene) -> None:
        """Belong to the images of a scene."""
        for name, value in (("features", features), ("preactivations", {}), ("losses", {}), ("_scene", scene)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "classify", scene.classify)

    @cached_property
    def proposals(self) -> Boxes:
        """The proposals, the surest first; see `Detected`."""
        with torch.no_grad():
            return Boxes.padded(self._scene.propose(None)[0])

    @cached_property
    def detections(self) -> Boxes:
        """The detections, the surest first; see `Detected`."""
        with torch.no_grad():
            return self._scene.detect(self.proposals.of_images())

    def detached(self) -> Detected:  # type: ignore[override]
        """Return the output cut off from the network that made it."""
        whole = Detected(self.features, {}, {}, self.proposals, self.detections, self.classify)
        return whole.detached()


def truth_of(boxes: Boxes) -> Truth:
    """Return boxes as torchvision takes them: without crowds, the classes from 1; this waits for the device."""
    found = []
    for corners, labels, crowd, count in zip(
        boxes.corners, boxes.labels, boxes.crowd, boxes.counts.tolist(), strict=True
    ):
        learned = ~crowd[:count]
        found.append({"boxes": corners[:count][learned], "labels": labels[:count][learned] + 1})
    return found


def _none(like: Tensor, images: int) -> Boxes:
    """Return no box for any of so many images."""
    return Boxes.padded([like.new_zeros(0, 4)] * images, scores=[like.new_zeros(0)] * images)


def _box_losses(logits: Tensor, shifts: Tensor, labels: list[Tensor], offsets: list[Tensor]) -> tuple[Tensor, Tensor]:
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    classifier, box = fastrcnn_loss(logits, shifts, labels, offsets)
    return classifier, box
