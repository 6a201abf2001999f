"""How the boxes that a detector finds are kept for people to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.contracts import Batch, Boxes, Detected
from tskd_tune.plain import Json
from tskd_tune.tasks.examples import Answering

MOST_FOUND: Final = 20
"""The boxes with the highest scores that are kept of an image."""
MOST_TRUE: Final = 60
"""The true boxes that are kept of an image."""


@final
class BoxAnswers(Answering[Detected]):
    """The boxes of each image that a detector is most sure of, and the true boxes without crowds."""

    kind = "boxes"
    samples = 12
    pixels = 320

    def __init__(self, first: int = 0) -> None:
        """Take the index of the part's first image."""
        self.first = first

    def blank(self, samples: int) -> dict[str, Tensor]:
        """Return zeros for some images."""
        counts = {name: torch.zeros(samples, dtype=torch.int64) for name in ("found", "true")}
        boxes = {"answer": torch.zeros(samples, MOST_FOUND, 6), "truth": torch.zeros(samples, MOST_TRUE, 5)}
        return {**counts, **boxes, "size": torch.zeros(samples, 2, dtype=torch.int64)}

    def answers(self, output: Detected, batch: Batch[Boxes]) -> Mapping[str, Tensor]:
        """Return the boxes with the highest scores, the true boxes, and the size of each image without padding."""
        detections, truth = output.detections, batch.targets
        assert detections.scores is not None, "a detector in eval mode gives scores"
        scores = detections.scores.masked_fill(~detections.valid, -1.0)
        taken = batch.targets.valid & ~truth.crowd
        sizes = batch.sizes
        if sizes is None:
            sizes = torch.tensor(batch.images.shape[-2:], device=batch.images.device).expand(len(batch.images), 2)
        return {
            "answer": _first(_columns(detections, scores), scores, MOST_FOUND),
            "found": (scores > 0).sum(1).clamp(max=MOST_FOUND),
            "truth": _first(_columns(truth), taken.float(), MOST_TRUE),
            "true": taken.sum(1).clamp(max=MOST_TRUE),
            "size": sizes,
        }

    def plain(self, kept: Mapping[str, Tensor]) -> dict[str, Json]:
        """Return lists with one item for each image; coordinates have one digit, scores three."""
        truth, answer = (
            [rows[:count] for rows, count in zip(kept[name].tolist(), kept[number].tolist(), strict=True)]
            for name, number in (("truth", "true"), ("answer", "found"))
        )
        return {
            "sizes": kept["size"].tolist(),
            "truth": [[_corners(box) for box in boxes] for boxes in truth],
            "answer": [[[*_corners(box), round(box[5], 3)] for box in boxes] for boxes in answer],
        }


def _columns(boxes: Boxes, scores: Tensor | None = None) -> Tensor:
    """Return corners, labels and, if given, scores as ``[B, M, 5 or 6]``."""
    last = [] if scores is None else [scores.unsqueeze(2)]
    return torch.cat([boxes.corners.float(), boxes.labels.unsqueeze(2).float(), *last], dim=2)


def _first(columns: Tensor, rank: Tensor, most: int) -> Tensor:
    """Return the ``most`` rows of each image with the highest rank ``[B, M]``, as ``[B, most, C]``."""
    short = max(0, most - rank.shape[1])
    order = F.pad(rank, (0, short), value=-2.0).argsort(dim=1, descending=True, stable=True)[:, :most]
    padded = F.pad(columns, (0, 0, 0, short))
    return padded.gather(1, order.unsqueeze(2).expand(-1, -1, columns.shape[2]))


def _corners(box: list[float]) -> list[Json]:
    return [*(round(value, 1) for value in box[:4]), int(box[4])]
