"""The cost model of a review, as formulas: what a step with a review costs, and what a whole training costs.

A review step is a general step, a forward pass of the teacher and of each of k snapshots, and the review's own loss,
forward and backward. The extractor takes one step for each element of the sequence, so its cost is a line in k. The
same formulas hold for seconds, floating-point operations and bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# A backward pass computes the gradients of inputs and of weights, each at about the cost of the forward pass.
TRAINED_PASSES = 3


@dataclass(frozen=True)
class Pieces:
    """The cost of the pieces of a step, all in one unit.

    Attributes:
        step: a general step: the student forward and backward, and its update.
        teacher: what a review adds once: the teacher's forward pass, up to its last tap.
        snapshot: what a review adds for each snapshot: the forward pass of a snapshot, up to its last tap.
        extractor: what the review's own loss costs, forward and backward, at two lengths k of the sequence.
    """

    step: float
    teacher: float
    snapshot: float
    extractor: Mapping[int, float]

    def review_step(self, k: int) -> float:
        """Return the predicted cost of a step that reviews k snapshots."""
        return self.step + self.added(k)

    def added(self, k: int) -> float:
        """Return what a review of k snapshots is predicted to add to a general step."""
        return self.teacher + k * self.snapshot + along(self.extractor, k)


def along(measured: Mapping[int, float], k: int) -> float:
    """Return the value at k of the line through two measured points.

    >>> along({2: 5.0, 8: 17.0}, 3)
    7.0

    Args:
        measured: k -> value, of two different k.
        k: where the line is read.
    """
    (first, low), (last, high) = sorted(measured.items())
    return low + (high - low) * (k - first) / (last - first)


def by_passes(student: float, teacher: float, snapshot: float, extractor: Mapping[int, float]) -> Pieces:
    """Return the cost of the pieces from the costs of forward passes: what is trained costs three of them.

    Args:
        student: a forward pass of the student, with its heads.
        teacher: a forward pass of the teacher, up to its last tap.
        snapshot: a forward pass of the student, up to its last tap.
        extractor: a forward pass of the review's own loss, at two lengths k of the sequence.
    """
    trained = {k: TRAINED_PASSES * cost for k, cost in extractor.items()}
    return Pieces(TRAINED_PASSES * student, teacher, snapshot, trained)


def whole_run(step_ratio: float, reviews: int, epochs: int) -> float:
    """Return the cost of a whole training as a multiple of the same training without reviews.

    >>> whole_run(step_ratio=5.0, reviews=12, epochs=240)
    1.2

    Args:
        step_ratio: the cost of a review step as a multiple of that of a general step.
        reviews: how many epochs review.
        epochs: the length of the training.
    """
    return 1 + reviews / epochs * (step_ratio - 1)


def off(predicted: float, measured: float) -> float:
    """Return by which part a prediction is too large; negative: too small.

    >>> off(predicted=11.0, measured=10.0)
    0.1
    """
    return round(predicted / measured - 1, 12)
