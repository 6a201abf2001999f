"""Work of one step that can be done side by side: what the frozen networks compute, and the taps of a review.

Here everything is done in order. A GPU with captured graphs does such work in parallel branches of the graph
(`tskd_tune.training.cuda_branches`), with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Apart(Protocol):
    """Does work that depends on nothing that is begun between a fork and its end."""

    def __call__(self, work: Callable[[], T], *uses: Tensor) -> T:
        """Do the work and return its result, which may be used after the end of the fork.

        Args:
            work: what is done.
            uses: the tensors that the work, or its backward pass, reads and that were made outside of it; parameters
                and buffers need not be named.
        """


def at_once(work: Callable[[], T], *uses: Tensor) -> T:
    """Do the work now."""
    return work()


class Branches:
    """Does all work at once, in order.

    >>> branches = Branches()
    >>> with branches.fork() as apart:
    ...     results = [apart(lambda: number + 1) for number in (1, 2)]
    >>> results
    [2, 3]
    """

    def begin(self) -> None:
        """Begin a step."""

    def join(self) -> None:
        """Wait for all work of the step that was done apart, and for its backward pass."""

    @contextmanager
    def fork(self) -> Iterator[Apart]:
        """Give what does work apart, until the end of the block."""
        yield at_once


IN_ORDER = Branches()
