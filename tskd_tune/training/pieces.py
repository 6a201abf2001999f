"""The micro-batches of a step: equal pieces of a batch whose gradients add up to those of the whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from tskd_tune.tasks.shards import edges

FEWEST_SAMPLES = 2
"""A batch norm cannot take statistics of one sample."""


@dataclass(frozen=True)
class Piece:
    """What of a batch is computed at once.

    Attributes:
        start: the first sample of the piece, among those of this worker.
        stop: the sample after the last one.
        share: what a mean over the samples of the piece counts in the mean over the batch of all workers.
        parts: the sizes of the parts of the piece, from each of which batch norms take statistics alone; empty: from
            the whole piece, which workers share.
        sizes: how many samples each of several workers has in its piece of this number.
    """

    start: int
    stop: int
    share: float
    parts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()


def pieces(total: int, most: int, groups: int, rank: int = 0, world: int = 1) -> tuple[Piece, ...]:
    """Cut the share of a batch that a worker has.

    Pieces are as equal as possible. A piece has at least two samples of each worker, so a short last batch of an epoch
    may have fewer pieces.

    >>> [(piece.start, piece.stop) for piece in pieces(10, most=4, groups=1)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    >>> [piece.parts for piece in pieces(8, most=2, groups=4)]
    [(2, 2), (2, 2)]
    >>> [piece.share for piece in pieces(8, most=2, groups=1, rank=1, world=2)]
    [0.25, 0.25]

    Args:
        total: the samples of the batch of all workers.
        most: the number of pieces of each worker, ``training.accumulate``.
        groups: from how many equal parts of the batch batch norms take statistics; a multiple of ``most * world``, or
            1: from each piece.
        rank: the number of the worker.
        world: how many workers share the batch.
    """
    grouped = groups > 1 and total >= FEWEST_SAMPLES * groups
    count = most if grouped else max(1, min(most, total // (FEWEST_SAMPLES * world)))
    everywhere = edges(total, count * world)
    bounds = everywhere[rank * count : (rank + 1) * count + 1]
    each, norms = groups // (count * world) if grouped else 0, edges(total, groups)

    def parts(number: int) -> tuple[int, ...]:
        first = (rank * count + number) * each
        return tuple(stop - start for start, stop in pairwise(norms[first : first + each + 1])) if grouped else ()

    def sizes(number: int) -> tuple[int, ...]:
        firsts = range(number, count * world, count) if world > 1 else ()
        return tuple(everywhere[first + 1] - everywhere[first] for first in firsts)

    return tuple(
        Piece(start - bounds[0], stop - bounds[0], (stop - start) / total, parts(number), sizes(number))
        for number, (start, stop) in enumerate(pairwise(bounds))
    )
