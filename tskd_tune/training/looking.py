"""The look at the first step of a review: what each loss does to the student, and the lambda that is found from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from tskd_tune.training.gradients import gradient_figures, student_gradients
from tskd_tune.training.reviewing import Reviewing

Totals: TypeAlias = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Adds up what all workers have."""


class Look:
    """Gathers the gradients of the losses of a step on the student, piece by piece."""

    def __init__(self, student: nn.Module) -> None:
        self._parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self._gradients: dict[str, Tensor] = {}
        self._terms: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor], terms: Mapping[str, Tensor]) -> None:
        """Add what a piece of the batch contributes.

        Args:
            losses: the losses of the piece, with the review's, before lambda, under ``review``.
            terms: what the review found, by its name in a history.
        """
        add_up(self._gradients, student_gradients(losses, self._parameters))
        add_up(self._terms, {name: term.detach() for name, term in terms.items()})

    def shown(self, review: Reviewing, of_task: Collection[str], totals: Totals) -> dict[str, float]:
        """Find lambda where it is ``auto``, and return what a history shows of the look; this waits for the device.

        Args:
            review: is told of the norms of the gradients.
            of_task: the names of the losses of the task's objective.
            totals: adds up what all workers have.
        """
        gradients = totals(self._gradients)
        names = [name for name in gradients if name != "review"]
        others = float(torch.stack([gradients[name] for name in names]).sum(dim=0).norm())
        weight = review.settle(others, float(gradients["review"].norm()))
        gradients["review"] = weight * gradients["review"]
        shown = {name: float(value) for name, value in totals(self._terms).items()} | {"lambda": weight}
        return shown | gradient_figures(gradients, of_task=of_task) | {"grad_norm_others": others}


class Aside:
    """Gradients of a review that wait for their weight: lambda is known only after the last piece of a batch."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        optimized = (group["params"] for optimizer in optimizers for group in optimizer.param_groups)
        self._parameters = [one for group in optimized for one in group if one.requires_grad]
        self._gradients: list[Tensor | None] = [None] * len(self._parameters)

    def add(self, loss: Tensor) -> None:
        """Add the gradients of a piece; the graph stays."""
        if not loss.requires_grad:
            return
        found = torch.autograd.grad(loss, self._parameters, retain_graph=True, allow_unused=True)
        for place, (before, new) in enumerate(zip(self._gradients, found, strict=True)):
            self._gradients[place] = new if before is None else before if new is None else before + new

    def settle(self, weight: Tensor) -> None:
        """Give the parameters the gradients, times their weight."""
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            if gradient is None:
                continue
            # A gradient lies in memory as its parameter does, as after backward(): fused SGD refuses another one.
            scaled = torch.empty_like(parameter).copy_(weight.to(gradient.dtype) * gradient)
            parameter.grad = scaled if parameter.grad is None else parameter.grad.add_(scaled)


def add_up(sums: dict[str, Tensor], new: Mapping[str, Tensor]) -> None:
    """Add values to those of the same name."""
    for name, value in new.items():
        sums[name] = value if name not in sums else sums[name] + value
