"""Average precision as COCO defines it, computed by faster-coco-eval, which is imported when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from tskd_tune.tasks.truth import Truth

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The overlaps (intersection over union) that count as found, 0.5 to 0.95; AP is the mean over them."""

SIZES: Mapping[str, str] = {
    "all": "all objects",
    "small": "objects of an area below 32 x 32 pixels",
    "medium": "objects of an area from 32 x 32 to 96 x 96 pixels",
    "large": "objects of a larger area",
}
"""The sizes of objects, by the annotated area in pixels of the original image."""

MOST = 100
"""Detections of an image that count: those with the highest scores."""

Result: TypeAlias = dict[str, int | float | list[float]]
"""A detection as COCO's result files have it: image_id, category_id, bbox and score."""


@final
@dataclass(frozen=True)
class Found:
    """The n detections of an image, in pixels of the original image.

    Attributes:
        index: the index of the image; see `Truth`.
        boxes: ``[n, 4]``, x, y, width and height.
        labels: ``[n]``, the class.
        scores: ``[n]``, how sure the detector is.
    """

    index: int
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


@final
@dataclass(frozen=True)
class Precision:
    """The precision of a detector at 101 recalls, for each overlap, class and size of objects.

    Attributes:
        values: ``[overlaps, recalls, classes, sizes]``, from 0 to 1, in the order of `IOUS` and `SIZES`; -1 for a class
            that has no object of a size.
    """

    values: NDArray[np.float64]

    def ap(self, *, iou: float | None = None, size: str = "all", label: int | None = None) -> float | None:
        """Return an average precision in percent; None where no image has an object that it is about.

        Args:
            iou: one of `IOUS`; None: the mean over all of them.
            size: one of `SIZES`.
            label: the class; None: the mean over the classes that have objects of the size.
        """
        chosen = self.values[:, :, :, list(SIZES).index(size)]
        chosen = chosen if iou is None else chosen[IOUS.index(iou)]
        chosen = chosen if label is None else chosen[..., label]
        known = chosen[chosen > -1]
        return 100 * float(np.mean(known)) if known.size else None

    def by_iou(self, size: str = "all") -> dict[float, float | None]:
        """Return the average precision in percent for each overlap; see `ap`."""
        return {iou: self.ap(iou=iou, size=size) for iou in IOUS}

    def by_class(self, iou: float | None = None) -> list[float | None]:
        """Return the average precision in percent of each class; see `ap`."""
        return [self.ap(iou=iou, label=label) for label in range(self.values.shape[2])]


def results(found: Sequence[Found], truth: Truth) -> list[Result]:
    """Return detections with the ids of the files of annotations, as in COCO's result files."""
    ids = truth.categories()
    return [
        {"image_id": truth.objects(one.index).image, "category_id": ids[label], "bbox": box, "score": score}
        for one in found
        for box, label, score in _rows(one)
    ]


def average_precision(found: Sequence[Found], truth: Truth) -> Precision:
    """Compare the detections of images with what is annotated in these images, and in no others."""
    from faster_coco_eval import COCO, COCOeval_faster

    ordered = sorted(found, key=lambda one: one.index)
    known = COCO(_annotations(ordered, truth), print_function=_silent)
    given = [
        {"image_id": one.index, "category_id": label, "bbox": box, "score": score}
        for one in ordered
        for box, label, score in _rows(one)
    ]
    evaluation = COCOeval_faster(known, known.loadRes(given), iouType="bbox", print_function=_silent)
    evaluation.evaluate()
    evaluation.accumulate()
    assert evaluation.params.areaRngLbl == list(SIZES) and evaluation.params.maxDets[-1] == MOST
    assert np.allclose(evaluation.params.iouThrs, IOUS)
    return Precision(np.asarray(evaluation.eval["precision"], dtype=np.float64)[..., -1])


def _annotations(found: Sequence[Found], truth: Truth) -> dict[str, list[dict[str, object]]]:
    """Return what is annotated in COCO's form, with an image's index and the class in place of the ids of the files.

    Annotations are numbered from 1: the evaluator takes the number 0 for no annotation.
    """
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for one in found:
        objects = truth.objects(one.index)
        images.append({"id": one.index, "height": objects.height, "width": objects.width})
        columns = (objects.boxes, objects.labels, objects.areas, objects.crowd)
        annotations += [
            {
                "id": len(annotations) + number,
                "image_id": one.index,
                "category_id": label,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (box, label, area, crowd) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True), 1
            )
        ]
    categories: list[dict[str, object]] = [{"id": label} for label in range(len(truth.categories()))]
    return {"images": images, "annotations": annotations, "categories": categories}


def _rows(found: Found) -> zip[tuple[list[float], int, float]]:
    return zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)


def _silent(*_: object) -> None:
    """Print nothing."""
