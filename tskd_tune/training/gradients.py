"""How each loss acts on the student: the norm of its gradient, and the cosine with the gradient of the task loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn


def student_gradients(losses: Mapping[str, Tensor], parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Return the gradient of each loss on the parameters, flattened ``[P]``; the step can still use the graph."""
    return {name: _flat_gradient(loss, parameters) for name, loss in losses.items()}


def _flat_gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros(sum(parameter.numel() for parameter in parameters), device=loss.device)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pieces = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return torch.cat([piece.flatten().float() for piece in pieces])


def gradient_figures(gradients: Mapping[str, Tensor], of_task: Collection[str]) -> dict[str, float]:
    """Return ``grad_norm_<loss>`` of every loss, and ``grad_cosine_<loss>`` of every loss that is not the task's.

    Args:
        gradients: the gradient of each loss on the parameters of the student, ``[P]``, by the name of the loss.
        of_task: the names of the losses of the task's objective; the cosine is with the sum of their gradients.
    """
    norms = {f"grad_norm_{name}": float(gradient.norm()) for name, gradient in gradients.items()}
    task = torch.stack([gradients[name] for name in of_task]).sum(dim=0)
    cosines = {
        f"grad_cosine_{name}": float(torch.nn.functional.cosine_similarity(gradient, task, dim=0))
        for name, gradient in gradients.items()
        if name not in of_task
    }
    return norms | cosines
