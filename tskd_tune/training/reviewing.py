"""How a review takes part in a training: in which epochs, with which snapshots and weight, and how extractors train."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from tskd_tune.contracts import Saved, varying
from tskd_tune.errors import DivergedError, RunError
from tskd_tune.method.memory import Memory
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.method.review import ReviewLoss
from tskd_tune.training.compute import Compute
from tskd_tune.training.optim import adam, forget
from tskd_tune.training.steps import StepKind

# With a smaller share of the gradient of all other losses, a review hardly changes the student.
SILENT_SHARE = 0.01


@dataclass(frozen=True)
class Strength:
    """The weight of the review loss: the paper's lambda, or a share of the other losses' gradient to be found.

    Attributes:
        value: lambda, or None where it is found at the first review.
        gradient_share: the norm of the review's gradient on the student when lambda is found, as a share of the norm of
            the gradient of all other losses together (of the task and of the distiller); None where lambda is given.
        warmup: epochs over which the weight rises linearly from zero.
    """

    value: float | None
    gradient_share: float | None = None
    warmup: int = 0

    def found(self, others_norm: float, review_norm: float) -> Strength:
        """Return this strength with a lambda, found from the norms of the two gradients on the student.

        Raises:
            DivergedError: the review has no gradient on the student, so no lambda gives the review a share.
        """
        if self.value is not None or self.gradient_share is None:
            return self
        if not review_norm > 0:
            raise DivergedError(
                "review.lambda: auto cannot be settled, the review loss has no gradient on the student;"
                " set sequence_gradient or target.gradient to attach, or give lambda a number"
            )
        return Strength(self.gradient_share * others_norm / review_norm, self.gradient_share, self.warmup)

    def at(self, epoch: int) -> float:
        """Return the weight in an epoch.

        Raises:
            RunError: lambda is ``auto`` and was not found yet.
        """
        if self.value is None:
            raise RunError("review.lambda: auto is used before the first step of a review has found lambda")
        return self.value * min(1.0, (epoch + 1) / self.warmup if self.warmup else 1.0)


@dataclass(frozen=True, kw_only=True)
class ExtractorTraining:
    """Who optimizes the extractors, and what happens to them between reviews; the paper specifies none of this.

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
    """The plan, the loss, the memory and the strength of the reviews of a training, and how extractors are trained.

    Attributes:
        weight: the weight of the review loss in the current epoch: a scalar on the device, filled in place.
        shuffle: the source of shuffled sequences in the current epoch; None before the first.
    """

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
        """Compose the parts; ``fresh_extractors(node)`` returns a newly initialized state of the review loss."""
        self.plan = plan
        self.loss = loss
        self.memory = memory
        self.strength = strength
        self.extractors = extractors
        self.weight = varying(0.0)
        self.shuffle: torch.Generator | None = None
        self._epoch = 0
        self._fresh_extractors = fresh_extractors

    def place(self, compute: Compute) -> None:
        """Move the extractors and the weight to the device.

        Extractors keep the usual memory format whatever that of the networks is: with one input channel and few hidden
        ones they are faster so.
        """
        self.loss.to(compute.device)
        self.weight = self.weight.to(compute.device)

    def parameters(self) -> list[nn.Parameter]:
        """Return the extractors' parameters."""
        return list(self.loss.parameters())

    def own_optimizer(self) -> torch.optim.Optimizer | None:
        """Return the extractors' own optimizer, if they have one."""
        if self.extractors.optimizer == "shared" or not self.parameters():
            return None
        return adam(self.parameters(), self.extractors.lr, self.extractors.weight_decay, self.weight.device)

    def begin_epoch(self, epoch: int, optimizers: Iterable[torch.optim.Optimizer], shuffle: torch.Generator) -> None:
        """Set the weight of the epoch, and reset the extractors if a node begins with the epoch; see `reset`.

        Args:
            epoch: counted from 0.
            optimizers: all that may remember something of the extractors.
            shuffle: the source of shuffled sequences in this epoch.
        """
        self._epoch, self.shuffle = epoch, shuffle
        self._fill_weight()
        self._reset(self.plan.begun(epoch, 0), optimizers)

    def _reset(self, node: int | None, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Where each review starts anew, reset the extractors and their optimizers' state as a review node begins."""
        if node is not None and self.extractors.reset and self.plan.reviews(node):
            self.loss.load_state_dict(self._fresh_extractors(node))
            for optimizer in optimizers:
                for parameter in self.parameters():
                    forget(optimizer, parameter)

    def prepare(self, epoch: int, step: int, student: nn.Module) -> None:
        """Keep the student as it is before a step, if the step begins a node whose snapshot is taken at its start."""
        node = self.plan.begun(epoch, step)
        if node is not None and self.plan.moment == "epoch_start" and self.plan.memorizes(node):
            self.memory.prepare(student)

    def pass_node(self, epoch: int, step: int, student: nn.Module, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Go from node to node before a step within an epoch, if a node begins with the step."""
        node = self.plan.begun(epoch, step)
        if node is None or step == 0:
            return
        self._memorize(node - 1, student)
        self._reset(node, optimizers)
        self.prepare(epoch, step, student)

    def end_epoch(self, epoch: int, student: nn.Module) -> None:
        """Keep the student, if a memory node ends with the epoch."""
        self._memorize(self.plan.ended(epoch), student)

    def _memorize(self, node: int | None, student: nn.Module) -> None:
        if node is not None and self.plan.memorizes(node):
            self.memory.memorize(student)

    def step_kind(self, epoch: int, step: int, steps: int, phase: Hashable) -> StepKind:
        """Return what kind of step the ``step``-th of an epoch of so many steps is, in a phase of the distiller."""
        node, within = self.plan.at(epoch, step)
        if not self.plan.reviews(node) or within >= self.plan.review_steps(steps):
            return StepKind(decays=self._decays(node), phase=phase)
        return StepKind(review=True, look=within == 0, detached=within < self.extractors.warmup_steps, phase=phase)

    def settle(self, others_norm: float, review_norm: float) -> float:
        """Find lambda where it is ``auto``, and return the weight of the current epoch; see `Strength.found`."""
        self.strength = self.strength.found(others_norm, review_norm)
        self._fill_weight()
        return self.strength.at(self._epoch)

    def _decays(self, node: int) -> bool:
        """Tell whether the extractors also change in the node's steps without a review."""
        return self.extractors.decay_when_frozen and any(past < node for past in self.plan.review_nodes)

    def keep_decaying(self) -> None:
        """Give the extractors zero gradients, so that weight decay and momentum change them."""
        for parameter in self.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def state_dict(self) -> Saved:
        """Return what a resume needs: the extractors, the snapshots and lambda."""
        return {
            "loss": self.loss.state_dict(),
            "memory": self.memory.snapshot_state(),
            "lambda": self.strength.value,
        }

    def load_state_dict(self, state: Saved, template: nn.Module) -> None:
        """Restore what `state_dict` returned; ``template`` is a network like those that were memorized."""
        self.loss.load_state_dict(state["loss"])
        self.memory.restore(state["memory"], template)
        self.strength = Strength(state["lambda"], self.strength.gradient_share, self.strength.warmup)
        self._fill_weight()

    def _fill_weight(self) -> None:
        if self.strength.value is not None:
            self.weight.fill_(self.strength.at(self._epoch))
