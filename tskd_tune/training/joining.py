"""Joins what the workers of a data-parallel training have computed, for losses that compare a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from tskd_tune.contracts import AnyBatch, Boxes, Classified, Detected, Output
from tskd_tune.distillers.base import Need
from tskd_tune.errors import RunError

Join = Callable[[Tensor], Tensor]
"""Joins the values of all workers along the first dimension, with gradient."""


@singledispatch
def joined(output: Output, join: Join, needs: Collection[str]) -> Output:
    """Return what all workers have computed, as far as it is in ``needs``; the rest is empty.

    Raises:
        RunError: there is no way to join outputs of this type.
    """
    raise RunError(
        f"training: the distiller needs the whole batch, but the workers cannot join outputs of the type"
        f" {type(output).__name__}; train with one worker"
    )


@joined.register
def _(output: Classified, join: Join, needs: Collection[str]) -> Classified:
    def vectors(of: Tensor, need: Need) -> Tensor:
        return join(of) if need in needs else of[:0]

    return Classified(
        logits=vectors(output.logits, Need.LOGITS),
        features=_maps(output.features, Need.FEATURES, join, needs),
        preactivations=_maps(output.preactivations, Need.PREACTIVATIONS, join, needs),
        embedding=vectors(output.embedding, Need.EMBEDDING),
    )


@joined.register
def _(output: Detected, join: Join, needs: Collection[str]) -> Detected:
    """Join the maps; a loss that reads regions or asks the box head must be separable."""
    none = Boxes.padded([torch.zeros(0, 4)])
    features = _maps(output.features, Need.FEATURES, join, needs)
    return Detected(features, {}, losses={}, proposals=none, detections=none, classify=_refuse_regions)


def _refuse_regions(boxes: Boxes) -> Tensor:
    raise RunError(
        "training: a distiller that asks the box head of a detector trains on several workers only if it is separable;"
        " train with one worker"
    )


def _maps(of: Mapping[str, Tensor], need: Need, join: Join, needs: Collection[str]) -> dict[str, Tensor]:
    return {stage: join(map_) for stage, map_ in of.items()} if need in needs else {}


def joined_batch(batch: AnyBatch, join: Join) -> AnyBatch:
    """Return targets, indices and sizes of all workers; the images, of which only the size is read, are one's own."""
    targets = _boxes(batch.targets, join) if isinstance(batch.targets, Boxes) else join(batch.targets)
    sizes = None if batch.sizes is None else join(batch.sizes)
    return replace(batch, targets=targets, indices=join(batch.indices), sizes=sizes)


def _boxes(of: Boxes, join: Join) -> Boxes:
    """Join the true boxes; all workers pad them to the largest number in the whole batch."""
    return Boxes(join(of.corners), join(of.labels), join(of.crowd.long()).bool(), join(of.counts))
