"""Detection: the detector's own losses, and average precision as COCO defines it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Detected
from tskd_tune.errors import RunError
from tskd_tune.metrics import PERCENT, Metric, Part
from tskd_tune.tasks.average_precision import SIZES, Found, Precision, Result, average_precision, results
from tskd_tune.tasks.base import PLACES, Objective, TaskFacts
from tskd_tune.tasks.box_answers import BoxAnswers
from tskd_tune.tasks.examples import Breakdown
from tskd_tune.tasks.truth import Truth

METRICS = (
    Metric("ap", "AP", PERCENT, "max"),
    Metric("ap50", "AP50", PERCENT, "max"),
    Metric("ap75", "AP75", PERCENT, "max"),
    Metric("ap_small", "APs", PERCENT, "max"),
    Metric("ap_medium", "APm", PERCENT, "max"),
    Metric("ap_large", "APl", PERCENT, "max"),
)


@final
class Detection(Objective[Detected]):
    """The losses that the detector computes itself; the metrics are COCO's average precisions in percent.

    AP is the mean over the overlaps 0.5, 0.55 to 0.95, and over the classes; AP50 and AP75 are those of one overlap;
    APs, APm and APl are those of small, medium and large objects. A metric is left out where the images that were
    measured have no object that it is about.
    """

    def __init__(self, truth: Truth) -> None:
        """Take what is annotated in the images."""
        self._truth = truth

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        """Return AP, AP50, AP75, APs, APm and APl."""
        return METRICS

    def losses(self, output: Detected, batch: AnyBatch) -> Mapping[str, Tensor]:
        """Return the losses of the detector by name.

        Raises:
            RunError: the detector computed none, since it did not get the boxes of the batch or is in eval mode.
        """
        if not output.losses:
            raise RunError(
                "student: the detector returned no losses in a training step; a network of this task needs"
                " takes_batch = True, and must return its losses in train mode"
            )
        return output.losses

    def meter(self, facts: TaskFacts) -> Detections:
        """Return a new meter of `metrics`."""
        return Detections(self._truth)

    def answering(self, facts: TaskFacts, part: Part) -> BoxAnswers:
        """Return how the boxes that a detector finds are kept; indices count through all three parts."""
        return BoxAnswers(first=sum(facts.samples[: PLACES[part]]))


@final
class Detections:
    """Collects the detections of a part; they are fetched from the device once."""

    def __init__(self, truth: Truth) -> None:
        """Compare with what is annotated."""
        self._truth = truth
        self._rows: list[Tensor] = []
        self._images: list[Tensor] = []
        self._found: list[Found] | None = None
        self._precision: Precision | None = None

    def update(self, output: Detected, batch: AnyBatch) -> None:
        """Add the detections ``[B, M]`` of a batch, whose ``sizes`` say how its images were scaled."""
        boxes, sizes = output.detections, batch.sizes
        assert boxes.scores is not None and sizes is not None
        owners = torch.where(boxes.valid, batch.indices.unsqueeze(1), -1)
        columns = (owners, *boxes.corners.unbind(2), boxes.labels, boxes.scores)
        self._rows.append(torch.stack([column.double() for column in columns], dim=2).flatten(0, 1))
        self._images.append(torch.cat([batch.indices.unsqueeze(1), sizes.to(batch.indices)], dim=1))
        self._found = self._precision = None

    def merge(self, add: Callable[[Sequence[Tensor]], None], device: torch.device) -> None:
        """Take in the detections of all workers, each of which measured other images.

        Every worker puts its detections into its places of a table of zeros, so the sum of the tables is exact.
        """
        own = self.found
        counts = torch.zeros(self._truth.count(), 2, dtype=torch.int64)
        for one in own:
            counts[one.index] = torch.tensor([1, len(one.labels)])
        counts = _summed(counts, add, device)
        stops = counts[:, 1].cumsum(0)
        table = torch.zeros(int(stops[-1]), 6, dtype=torch.float64)
        for one in own:
            columns = np.column_stack([one.boxes, one.labels, one.scores])
            table[int(stops[one.index]) - len(columns) : int(stops[one.index])] = torch.from_numpy(columns)
        table = _summed(table, add, device)
        seen = counts[:, 0].nonzero().flatten().tolist()
        parts = torch.split(table, counts[counts[:, 0] > 0, 1].tolist())
        self._found = [_of(index, part.numpy()) for index, part in zip(seen, parts, strict=True)]
        self._precision = None

    def compute(self) -> dict[str, float]:
        """Return the metrics of all images so far, in percent, without those that no image has an object for."""
        if not self.found:
            return {}
        found = self.precision
        values = (
            *(found.ap(), found.ap(iou=0.5), found.ap(iou=0.75)),
            *(found.ap(size=size) for size in ("small", "medium", "large")),
        )
        return {metric.name: value for metric, value in zip(METRICS, values, strict=True) if value is not None}

    def breakdowns(self) -> Sequence[Breakdown]:
        """Return AP by overlap, by size of the objects and by class, in percent; nothing without images."""
        if not self.found:
            return ()
        found, ap = self.precision, METRICS[0]
        ious, classes = found.by_iou(), found.by_class()
        sizes = {size: found.ap(size=size) for size in SIZES if size != "all"}
        overlaps = {f"{iou:.2f}": value for iou, value in ious.items()}
        names = tuple(self._truth.names())
        return (
            Breakdown("iou", "AP by IoU threshold", "IoU", ap, (*overlaps,), (*overlaps.values(),), ordered=True),
            Breakdown("size", "AP by size of the objects", "size", ap, (*sizes,), (*sizes.values(),)),
            Breakdown("class", "AP by class", "class", ap, names, tuple(classes)),
        )

    @property
    def precision(self) -> Precision:
        """The precision for each overlap, class and size of objects, of all images so far."""
        if self._precision is None:
            self._precision = average_precision(self.found, self._truth)
        return self._precision

    @property
    def found(self) -> list[Found]:
        """The detections of each image so far, in pixels of the original images, in the order of the images."""
        if self._found is None:
            self._found = self._fetched()
        return self._found

    def results(self) -> list[Result]:
        """Return all detections as COCO's result files have them, for other evaluators."""
        return results(self.found, self._truth)

    def _fetched(self) -> list[Found]:
        """Fetch all detections, and scale them to their original images."""
        if not self._images:
            return []
        rows, images = torch.cat(self._rows).cpu().numpy(), torch.cat(self._images).cpu()
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        found = []
        for index, height, width in sorted(images.tolist()):
            first, stop = np.searchsorted(rows[:, 0], [index, index + 1])
            objects = self._truth.objects(index)
            scale = np.array([objects.width / width, objects.height / height] * 2)
            corners, rest = rows[first:stop, 1:5] * scale, rows[first:stop, 5:]
            found.append(_of(index, np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2], rest])))
        return found


def _of(index: int, rows: NDArray[np.float64]) -> Found:
    """Return the detections of an image from rows of box, class and score, ``[n, 6]``."""
    return Found(index, rows[:, :4], rows[:, 4].astype(np.int64), rows[:, 5])


def _summed(values: Tensor, add: Callable[[Sequence[Tensor]], None], device: torch.device) -> Tensor:
    """Return the sum over the workers of a tensor, on the CPU."""
    summed = values.to(device)
    add([summed])
    return summed.cpu()
