"""The course of a training, epoch by epoch: the plan of the reviews, and the drops of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from tskd_tune.cli.preparing.drawing import timeline
from tskd_tune.cli.terminal import console, say, show, warn
from tskd_tune.errors import InputError
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.training.milestones import scaled_milestones
from tskd_tune.words import count

MOST_EPOCHS = 100_000
# A drawing in a file has 100 epochs per line.
PAGE_WIDTH = 107
CELLS = {"general": ".", "memorize": "m", "review": "r", "memorize+review": "R"}


class PlainCourse(TypedDict):
    """A course as ``plan --json`` and ``check --json`` print it."""

    epochs: int
    milestones: Sequence[int]
    k: int | None
    delta: int | None
    memorize: Sequence[int]
    review: Sequence[int]
    warnings: Sequence[str]
    nodes: NotRequired[PlainNodes]


class PlainNodes(TypedDict):
    """The nodes of a plan that counts steps: ``review.plan.node``.

    ``memorize`` and ``review`` have the epoch and the step with which each memory and each review begins; the lists
    beside them in `PlainCourse` name the epochs in which snapshots are kept and reviews take place.
    """

    steps: int
    count: int
    memorize: Sequence[tuple[int, int]]
    review: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Course:
    """The course of a training, epoch by epoch.

    Attributes:
        epochs: the number of epochs.
        milestones: the milestones of the learning rate, as given by the user.
        drops: the epochs that are the first with a lower learning rate.
        plan: the epochs that memorize and review; None without a review.
    """

    epochs: int
    milestones: Sequence[int]
    drops: Sequence[int]
    plan: ReviewPlan | None

    @classmethod
    def of_numbers(cls, epochs: int, k: int, delta: int) -> Course:
        """Return the course of a training with the paper's plan and the paper's milestones, scaled to ``epochs``.

        Raises:
            InputError: a number is out of its bounds, or no review falls within the training.
        """
        for name, value, most in (("--epochs", epochs, MOST_EPOCHS), ("--k", k, None), ("--delta", delta, None)):
            if value < 1 or (most is not None and value > most):
                bounds = "at least 1" if most is None else f"from 1 to {most:,}"
                raise InputError(f"{name}: must be {bounds}, got {value}")
        milestones = scaled_milestones(epochs)
        return cls(epochs, milestones, milestones, ReviewPlan(epochs, k, delta))

    def phases(self) -> str:
        """Return a letter per epoch: `m`emorize, `r`eview, ``R`` for both, ``.`` for general."""
        if self.plan is None:
            return CELLS["general"] * self.epochs
        return "".join(CELLS[self.plan.phase(epoch)] for epoch in range(self.epochs))

    def warnings(self) -> list[str]:
        """Return the weaknesses of the plan, one sentence each."""
        return [] if self.plan is None else self.plan.warnings(self.milestones)

    def plain(self) -> PlainCourse:
        """Return the course as plain data."""
        plan = self.plan
        found: PlainCourse = {
            "epochs": self.epochs,
            "milestones": list(self.milestones),
            "k": None if plan is None else plan.k,
            "delta": None if plan is None else plan.delta,
            "memorize": [] if plan is None else [*plan.memory_epochs],
            "review": [] if plan is None else [*plan.review_epochs],
            "warnings": self.warnings(),
        }
        if plan is not None and plan.node != "epoch":
            found["nodes"] = {
                "steps": plan.node,
                "count": plan.nodes,
                "memorize": plan.moments(plan.memory_nodes),
                "review": plan.moments(plan.review_nodes),
            }
        return found

    def draw(self, title: str) -> None:
        """Draw the epochs on the terminal, under a line with the numbers of snapshots and reviews."""
        before = f"{title}: " if title else ""
        if self.plan is None:
            say(f"{before}{count(self.epochs, 'epoch')} without a review")
            return
        memories, reviews = len(self.plan.memory_nodes), len(self.plan.review_nodes)
        first, last = self.plan.review_epochs[0], self.plan.review_epochs[-1]
        where = f"from epoch {first} to {last}" if reviews > 1 else f"at epoch {first}"
        length = "" if self.plan.node == "epoch" else f" of {self.plan.steps} steps, nodes of {self.plan.node} steps"
        snapshots = count(memories, "memory", "memories")
        say(f"{before}{count(self.epochs, 'epoch')}{length}, {snapshots}, {count(reviews, 'review')} {where}")
        terminal = console()
        show(timeline(self.phases(), self.drops, terminal.width if terminal.is_terminal else PAGE_WIDTH))
        warn(self.warnings())
