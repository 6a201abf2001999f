"""How a review takes part in a training: when, over which memories, how strongly, and who trains its extractor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from tskd_tune.errors import DivergedError, RunError
from tskd_tune.method.memory import Memory
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.method.review import ReviewLoss

# Below this share of the gradient of all other losses a review hardly moves the student.
SILENT_SHARE = 0.01


@dataclass(frozen=True)
class Strength:
    """The weight of the review loss: the paper's lambda, or a share of the other losses' gradient to be found.

    Attributes:
        value: lambda, or None where it is found at the first review.
        gradient_share: the norm that the review's gradient shall have on the student when lambda is found, as a
            share of that of all other losses together, the task's and the distiller's; None where lambda is given.
        warmup: epochs over which the weight rises linearly from zero.
    """

    value: float | None
    gradient_share: float | None = None
    warmup: int = 0

    def found(self, others_norm: float, review_norm: float) -> Strength:
        """Return this strength with lambda settled from the norms of the two gradients on the student.

        Raises:
            DivergedError: the review has no gradient on the student, so that no lambda gives it a share.
        """
        if self.value is not None or self.gradient_share is None:
            return self
        if not review_norm > 0:
            raise DivergedError(
                "review.lambda: auto cannot be settled, the review loss has no gradient on the student;"
                " attach the target or the sequence, or give lambda a number"
            )
        return Strength(self.gradient_share * others_norm / review_norm, self.gradient_share, self.warmup)

    def at(self, epoch: int) -> float:
        """Return the weight in an epoch; before lambda is settled there is none, which is an error."""
        if self.value is None:
            raise RunError("review.lambda: used before it was settled")
        return self.value * min(1.0, (epoch + 1) / self.warmup if self.warmup else 1.0)


@dataclass(frozen=True, kw_only=True)
class ExtractorTraining:
    """Who optimizes the extractors, and what happens to them between reviews (the paper is silent on all of it).

    Attributes:
        optimizer: what optimizes the extractors: ``shared``: the student's optimizer, at its learning rate; ``own``:
            Adam.
        lr: Adam's first learning rate; it drops where the student's does; for ``optimizer: own`` only.
        weight_decay: Adam's weight decay; for ``optimizer: own`` only.
        decay_when_frozen: let weight decay and momentum change the extractors in general epochs after the first review,
            as old versions of torch did.
        reset: initialize the extractors anew at each review.
        warmup_steps: number of steps at the start of each review in which the review trains the extractors but not the
            student.
    """

    optimizer: Literal["shared", "own"] = "shared"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    decay_when_frozen: bool = False
    reset: bool = False
    warmup_steps: NonNegativeInt = 0


class Reviewing:
    """A review's plan, loss, memory, strength and the care of its extractors."""

    def __init__(
        self,
        plan: ReviewPlan,
        loss: ReviewLoss,
        memory: Memory,
        *,
        strength: Strength,
        extractors: ExtractorTraining,
        fresh_extractors: Callable[[int], Mapping[str, Tensor]],
    ) -> None:
        """Compose them; ``fresh_extractors(epoch)`` gives a newly initialized state of the review loss."""
        self.plan = plan
        self.loss = loss
        self.memory = memory
        self.strength = strength
        self.extractors = extractors
        self._fresh_extractors = fresh_extractors

    def parameters(self) -> list[nn.Parameter]:
        """Return the extractors' parameters."""
        return list(self.loss.parameters())

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Return the extractors' own optimizer, if they have one."""
        if self.extractors.optimizer == "shared" or not self.parameters():
            return None
        return torch.optim.Adam(self.parameters(), lr=self.extractors.lr, weight_decay=self.extractors.weight_decay)

    def begin_epoch(self, epoch: int, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Reset the extractors, and what the optimizers remember of them, where each review starts anew."""
        if self.extractors.reset and self.plan.reviews(epoch):
            self.loss.load_state_dict(self._fresh_extractors(epoch))
            for optimizer in optimizers:
                for parameter in self.parameters():
                    _forget(optimizer, parameter)

    def snapshots_early(self, epoch: int) -> bool:
        """Tell whether the epoch keeps the student as it is before the first step."""
        return self.plan.moment == "epoch_start" and self.plan.memorizes(epoch)

    def keep_decaying(self, epoch: int) -> None:
        """Give the extractors zero gradients in a general epoch, where they shall decay between reviews."""
        if self.extractors.decay_when_frozen and any(past < epoch for past in self.plan.review_epochs):
            for parameter in self.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs: extractors, memories, the settled lambda."""
        return {
            "loss": self.loss.state_dict(),
            "memory": self.memory.snapshot_state(),
            "lambda": self.strength.value,
        }

    def load_state_dict(self, state: Mapping[str, Any], template: nn.Module) -> None:
        """Restore it; ``template`` is a network like those that were memorized."""
        self.loss.load_state_dict(state["loss"])
        self.memory.restore(state["memory"], template)
        self.strength = Strength(state["lambda"], self.strength.gradient_share, self.strength.warmup)


def _forget(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> None:
    """Set what an optimizer remembers of a parameter to zero, in place; SGD and Adam begin with zeros."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor):
            value.zero_()
