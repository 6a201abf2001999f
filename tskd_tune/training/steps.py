"""Kinds of steps: beside the batch, the kind alone decides which operations a step does."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class StepKind:
    """The kind of a step: a function of the numbers of the epoch and of the step, never of what was computed before.

    Two steps of one kind do the same operations, so one captured graph can stand for both.

    Attributes:
        review: whether the step has a review loss.
        look: whether the step also shows what the review does to the student, and finds lambda where it is
            ``auto``; the first step of each review is a look. Only a look waits for the device.
        detached: whether the review loss trains the extractors alone (``warmup_steps``).
        decays: whether weight decay and momentum also change the extractors, in a step without a review
            (``decay_when_frozen``).
        phase: what tells apart steps whose losses do different operations: the phase of the distiller.
    """

    review: bool = False
    look: bool = False
    detached: bool = False
    decays: bool = False
    phase: Hashable = None
