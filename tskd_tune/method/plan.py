"""The review plan: which nodes memorize and which review (TSKD, Definition 1, Eq. 5 and Algorithm 1).

The paper's *node* is an epoch; long epochs may have nodes of a fixed number of steps instead. A *memory* node keeps a
snapshot of the student. A *review* node adds the review loss to its steps and uses the last ``k`` snapshots. All other
nodes are *general*. Epochs, steps and nodes count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from tskd_tune.errors import InputError

Phase = Literal["general", "memorize", "review", "memorize+review"]
FEWEST_REVIEWS = 3


@dataclass(frozen=True)
class ReviewPlan:
    """The memory and review nodes of a training; the numbers of the epoch and of the step alone decide.

    Where nodes are epochs, read epochs for nodes. Marked nodes are ``S`` apart: ``S`` is ``delta`` (``spacing:
    period``) or ``delta + 1`` (``spacing: gap``). A cycle is

    * ``disjoint``: k memories, then a review that is not a memory;
    * ``chained``: a review is also the first memory of the next window;
    * ``sliding``: every marked node memorizes, and reviews once k memories are held.

    >>> plan = ReviewPlan(epochs=36, k=3, delta=5)
    >>> plan.memory_epochs, plan.review_epochs
    ((0, 5, 10, 20, 25, 30), (15, 35))
    >>> plan.phase(4), plan.phase(5), plan.phase(15)
    ('general', 'memorize', 'review')
    >>> plan = ReviewPlan(epochs=2, k=3, delta=1, steps=10, node=3)
    >>> plan.memory_nodes, plan.review_nodes, plan.review_epochs
    ((0, 1, 2, 4, 5), (3,), (0, 1))

    Attributes:
        epochs: the length of the training.
        k: the number of snapshots that a review uses.
        delta: the distance between marked nodes, or the number of general nodes between them.
        steps: the number of steps of an epoch; used where ``node`` is a number of steps.
        node: the unit in which ``delta`` and the options below count time. ``epoch``: an epoch; a number: so many
            steps (iterations), also across the ends of epochs; an incomplete last node is general.
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
        memory_nodes: every memory node, ascending, those of an incomplete last cycle included.
        review_nodes: every review node, ascending, never empty.

    Raises:
        InputError: ``k`` or ``delta`` below 1, a window that is no pair of ascending epochs, ``next`` outside
            disjoint cycles, or a training in which no review happens.
    """

    epochs: int
    k: int
    delta: int
    steps: int = 0
    _: KW_ONLY
    node: Literal["epoch"] | PositiveInt = "epoch"
    spacing: Literal["period", "gap"] = "period"
    cycle: Literal["disjoint", "chained", "sliding"] = "disjoint"
    first_memory: NonNegativeInt | Literal["interval"] = 0
    review_offset: Literal["delta", "next"] = "delta"
    moment: Literal["epoch_end", "epoch_start"] = "epoch_end"
    review_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_reviews: PositiveInt | None = None
    review_window: list[NonNegativeInt] | None = None
    memory_nodes: tuple[int, ...] = field(init=False, repr=False, compare=False)
    review_nodes: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the options and compute the nodes."""
        self._check()
        reviews = self._reviews()
        object.__setattr__(self, "review_nodes", reviews)
        object.__setattr__(self, "memory_nodes", self._memories(reviews))

    @property
    def nodes(self) -> int:
        """The number of complete nodes of the training."""
        return self.epochs if self.node == "epoch" else self.epochs * self.steps // self.node

    @cached_property
    def memory_epochs(self) -> tuple[int, ...]:
        """The epochs in which snapshots are kept: those of the last steps of memory nodes."""
        if self.node == "epoch":
            return self.memory_nodes
        return tuple(sorted({((node + 1) * self.node - 1) // self.steps for node in self.memory_nodes}))

    @cached_property
    def review_epochs(self) -> tuple[int, ...]:
        """The epochs that have steps with the review loss."""
        if self.node == "epoch":
            return self.review_nodes
        length = self.review_steps(self.steps)
        spans = ((node * self.node, node * self.node + length - 1) for node in self.review_nodes)
        return tuple(
            sorted({epoch for first, last in spans for epoch in range(first // self.steps, last // self.steps + 1)})
        )

    def at(self, epoch: int, step: int) -> tuple[int, int]:
        """Return the node of a step, and the number of the step in its node."""
        return (epoch, step) if self.node == "epoch" else divmod(epoch * self.steps + step, self.node)

    def begun(self, epoch: int, step: int) -> int | None:
        """Return the node that begins with a step; None within a node."""
        node, within = self.at(epoch, step)
        return node if within == 0 else None

    def ended(self, epoch: int) -> int | None:
        """Return the node that ends with an epoch; None where a node goes on."""
        node = self.begun(epoch + 1, 0)
        return None if node is None else node - 1

    def memorizes(self, node: int) -> bool:
        """Tell whether a node keeps a snapshot."""
        return node in self._memory_set

    def reviews(self, node: int) -> bool:
        """Tell whether a node reviews."""
        return node in self._review_set

    def phase(self, epoch: int) -> Phase:
        """Return the name of what an epoch does."""
        if epoch in self.review_epochs:
            return "memorize+review" if epoch in self.memory_epochs else "review"
        return "memorize" if epoch in self.memory_epochs else "general"

    def review_steps(self, steps_per_epoch: int) -> int:
        """Return how many steps of a review node, from its first, carry the review loss; at least 1."""
        return max(1, round(self.review_fraction * (steps_per_epoch if self.node == "epoch" else self.node)))

    def moments(self, nodes: Sequence[int]) -> list[tuple[int, int]]:
        """Return the epoch and the step with which each of some nodes begins."""
        return [(node, 0) if self.node == "epoch" else divmod(node * self.node, self.steps) for node in nodes]

    def warnings(self, milestones: Sequence[int]) -> list[str]:
        """Return warnings about a weak plan; ``milestones`` are the epochs at which the learning rate drops."""
        found = []
        count, first = len(self.review_nodes), self.review_epochs[0]
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

    @cached_property
    def _memory_set(self) -> frozenset[int]:
        return frozenset(self.memory_nodes)

    @cached_property
    def _review_set(self) -> frozenset[int]:
        return frozenset(self.review_nodes)

    @property
    def _unit(self) -> str:
        return "epoch" if self.node == "epoch" else "node"

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
        planned = range(self._first_review, self.nodes, self._cycle_length)
        if not planned:
            unit = self._unit
            length = "" if self.node == "epoch" else f" of {self.node} steps (review.plan.node)"
            raise InputError(
                f"review: the first review is {unit} {self._first_review} but training has {self.nodes} {unit}s"
                f"{length}; lower k or delta, or train longer"
            )
        first, last = self.review_window or (0, self.nodes)
        kept = tuple(epoch for epoch in planned if first <= epoch <= last)
        if not kept:
            raise InputError(
                f"review.plan.review_window: no review falls into {self._unit}s {first} to {last}; "
                f"reviews are planned for {_list(planned)}; widen the window"
            )
        return kept[: self.max_reviews]

    def _memories(self, reviews: tuple[int, ...]) -> tuple[int, ...]:
        end = reviews[-1] if len(reviews) == self.max_reviews else self.nodes
        if self.cycle != "disjoint":
            return tuple(range(self._start, end, self._interval))
        cycles = range(self._start, end, self._cycle_length)
        nodes = (range(begin, begin + self.k * self._interval, self._interval) for begin in cycles)
        return tuple(epoch for cycle in nodes for epoch in cycle if epoch < end)

    def _check(self) -> None:
        for name, value in (("k", self.k), ("delta", self.delta)):
            if value < 1:
                raise InputError(f"review.{name}: must be at least 1, got {value}")
        if self.node != "epoch" and self.steps < 1:
            raise InputError(
                f"review.plan.node: {self.node} steps need the number of steps of an epoch, which no one gave; set"
                " review.plan.node: epoch"
            )
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
