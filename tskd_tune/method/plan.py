"""The review plan: which epochs memorize and which review (TSKD, Definition 1, Eq. 5 and Algorithm 1).

A *memory* epoch keeps a snapshot of the student. A *review* epoch adds the review loss to its steps and uses the last
``k`` snapshots. All other epochs are *general*. Epochs count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError

Phase = Literal["general", "memorize", "review", "memorize+review"]
FEWEST_REVIEWS = 3


@dataclass(frozen=True)
class ReviewPlan:
    """The memory and review epochs of a training; the epoch number alone decides.

    Marked epochs are ``S`` apart: ``S`` is ``delta`` (``spacing: period``) or ``delta + 1`` (``spacing: gap``). A cycle
    is

    * ``disjoint``: k memories, then a review that is not a memory;
    * ``chained``: a review is also the first memory of the next window;
    * ``sliding``: every marked epoch memorizes, and reviews once k memories are held.


    >>> plan = ReviewPlan(epochs=36, k=3, delta=5)
    >>> plan.memory_epochs, plan.review_epochs
    ((0, 5, 10, 20, 25, 30), (15, 35))
    >>> plan.phase(4), plan.phase(5), plan.phase(15)
    ('general', 'memorize', 'review')

    Attributes:
        epochs: the length of the training.
        k: the number of snapshots that a review uses.
        delta: the distance between marked epochs, or the number of general epochs between them.
        spacing: how ``delta`` is counted. ``period``: marked epochs are ``delta`` apart; ``gap``: ``delta`` general
            epochs lie between them.
        cycle: how memories and reviews alternate. ``disjoint``: k memories, then a review that is not a memory;
            ``chained``: a review is also the first memory of the next cycle; ``sliding``: every marked epoch memorizes,
            and reviews once k memories are held.
        first_memory: the first memory epoch, counted from 0; ``interval``: the last epoch of the first interval.
        review_offset: when a review follows its last memory: one interval later (``delta``), or in the next epoch
            (``next``, for ``cycle: disjoint`` only).
        moment: whether a memory epoch's snapshot is taken at its end or at its start.
        review_fraction: share of a review epoch's steps, from its first, that carry the review loss.
        max_reviews: number of reviews after which no epoch memorizes or reviews any more; null: no limit.
        review_window: first and last epoch, both included, in which reviews take place; memories are not limited; null:
            all epochs.
        memory_epochs: every memory epoch, ascending, those of an incomplete last cycle included.
        review_epochs: every review epoch, ascending, never empty.

    Raises:
        InputError: ``k`` or ``delta`` below 1, a window that is no pair of ascending epochs, ``next`` outside
            disjoint cycles, or a training in which no review happens.
    """

    epochs: int
    k: int
    delta: int
    _: KW_ONLY
    spacing: Literal["period", "gap"] = "period"
    cycle: Literal["disjoint", "chained", "sliding"] = "disjoint"
    first_memory: NonNegativeInt | Literal["interval"] = 0
    review_offset: Literal["delta", "next"] = "delta"
    moment: Literal["epoch_end", "epoch_start"] = "epoch_end"
    review_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_reviews: PositiveInt | None = None
    review_window: list[NonNegativeInt] | None = None
    memory_epochs: tuple[int, ...] = field(init=False, repr=False, compare=False)
    review_epochs: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the options and compute the epochs."""
        self._check()
        reviews = self._reviews()
        object.__setattr__(self, "review_epochs", reviews)
        object.__setattr__(self, "memory_epochs", self._memories(reviews))

    def memorizes(self, epoch: int) -> bool:
        """Tell whether an epoch keeps a snapshot."""
        return epoch in self.memory_epochs

    def reviews(self, epoch: int) -> bool:
        """Tell whether an epoch reviews."""
        return epoch in self.review_epochs

    def phase(self, epoch: int) -> Phase:
        """Return the name of what an epoch does."""
        if self.reviews(epoch):
            return "memorize+review" if self.memorizes(epoch) else "review"
        return "memorize" if self.memorizes(epoch) else "general"

    def review_steps(self, steps_per_epoch: int) -> int:
        """Return how many steps of a review epoch, from its first, carry the review loss; at least 1."""
        return max(1, round(self.review_fraction * steps_per_epoch))

    def warnings(self, milestones: Sequence[int]) -> list[str]:
        """Return warnings about a weak plan; ``milestones`` are the epochs at which the learning rate drops."""
        found = []
        count, first = len(self.review_epochs), self.review_epochs[0]
        if count < FEWEST_REVIEWS:
            found.append(
                f"review: only {count} review{'s' if count > 1 else ''} in {self.epochs} epochs "
                f"(epoch {_list(self.review_epochs)}), fewer than {FEWEST_REVIEWS}; "
                "lower k or delta, or train longer"
            )
        drop = min((epoch for epoch in milestones if epoch < self.epochs), default=None)
        if drop is not None and first >= drop:
            found.append(
                f"review: the first review is epoch {first}, but the learning rate drops at epoch {drop}; "
                "lower k or delta, or review earlier"
            )
        return found

    @property
    def _interval(self) -> int:
        return self.delta if self.spacing == "period" else self.delta + 1

    @property
    def _start(self) -> int:
        return self._interval - 1 if self.first_memory == "interval" else self.first_memory

    @property
    def _first_review(self) -> int:
        if self.review_offset == "next":
            return self._start + (self.k - 1) * self._interval + 1
        return self._start + self.k * self._interval

    @property
    def _cycle_length(self) -> int:
        """The epochs from one review to the next."""
        if self.cycle == "disjoint":
            return self._first_review - self._start + self._interval
        return self._interval * (self.k if self.cycle == "chained" else 1)

    def _reviews(self) -> tuple[int, ...]:
        planned = range(self._first_review, self.epochs, self._cycle_length)
        if not planned:
            raise InputError(
                f"review: the first review is epoch {self._first_review} but training has {self.epochs} epochs; "
                "lower k or delta, or train longer"
            )
        first, last = self.review_window or (0, self.epochs)
        kept = tuple(epoch for epoch in planned if first <= epoch <= last)
        if not kept:
            raise InputError(
                f"review.plan.review_window: no review falls into epochs {first} to {last}; "
                f"reviews are planned for {_list(planned)}; widen the window"
            )
        return kept[: self.max_reviews]

    def _memories(self, reviews: tuple[int, ...]) -> tuple[int, ...]:
        end = reviews[-1] if len(reviews) == self.max_reviews else self.epochs
        if self.cycle != "disjoint":
            return tuple(range(self._start, end, self._interval))
        cycles = range(self._start, end, self._cycle_length)
        nodes = (range(begin, begin + self.k * self._interval, self._interval) for begin in cycles)
        return tuple(epoch for cycle in nodes for epoch in cycle if epoch < end)

    def _check(self) -> None:
        for name, value in (("k", self.k), ("delta", self.delta)):
            if value < 1:
                raise InputError(f"review.{name}: must be at least 1, got {value}")
        if self.review_offset == "next" and self.cycle != "disjoint":
            raise InputError(
                f"review.plan.review_offset: 'next' is defined for cycle: disjoint only, got cycle: {self.cycle}; "
                "use review_offset: delta"
            )
        window = self.review_window
        if window is not None and (len(window) != 2 or window[0] > window[1]):
            raise InputError(f"review.plan.review_window: must be [first, last] epoch with first <= last, got {window}")


def _list(epochs: Sequence[int]) -> str:
    """Write epochs for a message; of many epochs only the first four and the last."""
    few = ", ".join(str(epoch) for epoch in epochs[:4])
    return few if len(epochs) <= 4 else f"{few}, ..., {epochs[-1]}"
