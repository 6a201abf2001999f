"""Carries out the steps of a training that several workers share, each with its share of every batch.

The loss of a step is the sum over the workers of one part each. What is a mean over samples counts by the size of the
worker's share. A distiller that is not separable, or that keeps a state for each sample, gets the outputs of the whole
batch from all workers, so every worker computes the whole of its losses and counts them by one share of ``1 / world``.
In micro-batches such a distiller gets the micro-batches of one number from all workers. So no distiller knows of
workers. Gradients and losses are added up in one message a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from tskd_tune.contracts import Batch, Out, Output
from tskd_tune.distillers.base import Need
from tskd_tune.tasks.base import Draw, Feed
from tskd_tune.training.batch_norms import BatchNorms
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.group import Group
from tskd_tune.training.joining import joined, joined_batch
from tskd_tune.training.parts import Parts
from tskd_tune.training.pieces import Piece, pieces
from tskd_tune.training.steps import StepKind


class ParallelEngine(EagerEngine[Out]):
    """Takes the steps of `EagerEngine` with several workers; the result differs in rounding alone."""

    name = "parallel"

    def __init__(self, parts: Parts[Out], reason: str = "") -> None:
        """Compute with ``parts``, whose ``compute`` knows the group."""
        super().__init__(parts, reason)
        assert parts.compute.group is not None
        self._group: Group = parts.compute.group
        self._sizes: tuple[int, ...] = ()
        self._gathers = gathers(parts.distiller)

    def step(self, feed: Feed, draw: Draw, kind: StepKind) -> None:
        """Make the own share of the batch of a draw, and take one step together with the other workers."""
        self._sizes = draw.sizes
        try:
            super().step(feed, draw, kind)
        finally:
            self._sizes = ()

    def means(self) -> dict[str, float]:
        """Return the mean of each loss as `EagerEngine` does, once all exchanges are known to have succeeded."""
        found = super().means()
        self._group.confirm()
        return found

    def _pieces(self, samples: int) -> tuple[Piece, ...]:
        rank, world = self._group.rank, self._group.world
        if not self._sizes:  # every worker has the whole batch, and counts it by its share of the workers
            return tuple(replace(piece, share=piece.share / world) for piece in super()._pieces(samples))
        compute = self.parts.compute
        return pieces(sum(self._sizes), compute.accumulate, compute.norm_groups, rank, world)

    def _statistics(self, cut: Sequence[Piece]) -> BatchNorms | None:
        return BatchNorms(self._group, len(cut)) if self._sizes else super()._statistics(cut)

    def _beside(self, output: Out, taught: Output | None, batch: Batch) -> Mapping[str, Tensor]:
        if not self._sizes or not self._gathers:
            return super()._beside(output, taught, batch)
        needs = {str(need) for need in self.parts.distiller.needs}
        join = partial(self._group.gather, sizes=self._piece.sizes)
        own, above = (None if one is None else joined(one, join, needs) for one in (output, taught))
        found = self._distilled(own, above, joined_batch(batch, join))
        counted = self._group.world * (sum(self._sizes) / sum(self._piece.sizes))
        return {name: loss / counted for name, loss in found.items()}

    def _whole(self, batch: Batch) -> Batch:
        if not self._sizes or not self._gathers:
            return batch
        return joined_batch(batch, partial(self._group.gather, sizes=self._sizes))

    def _settled(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        optimized = (group["params"] for optimizer in self.parts.optimizers for group in optimizer.param_groups)
        gradients = [one.grad for group in optimized for one in group if one.grad is not None]
        return self._totals(found, beside=[*gradients, *self._running()])

    def _totals(self, values: Mapping[str, Tensor], beside: Sequence[Tensor] = ()) -> dict[str, Tensor]:
        totals = {name: value.detach().clone() for name, value in values.items()}
        self._group.add([*beside, *totals.values()])
        return totals

    def _running(self) -> list[Tensor]:
        """Return the running statistics that each worker moved alone, as a share of their mean."""
        return [one.div_(self._group.world) for one in self._norms.running.values()] if self._norms else []


def gathers(distiller: nn.Module) -> bool:
    """Tell whether a distiller or a teacher's method needs the outputs of the whole batch."""
    needs = {str(need) for need in getattr(distiller, "needs", ())}
    return bool(needs) and not (getattr(distiller, "separable", False) and Need.INDICES not in needs)
