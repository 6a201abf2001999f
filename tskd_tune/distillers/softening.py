"""Softened logits, which every distiller of logits begins with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def exact(values: Tensor) -> Tensor:
    """Return the values in float32 at least, also under autocast."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``log softmax(logits / T)``, ``[B, classes]``, in float32 at least; T is one number or ``[B, 1]``."""
    return functional.log_softmax(exact(logits) / temperature, dim=1)


def divergences(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``KL(softmax(t / T) || softmax(s / T))`` of every sample, ``[B]``, of logits ``[B, classes]``."""
    given, wanted = log_softened(student, temperature), log_softened(teacher, temperature)
    return functional.kl_div(given, wanted, reduction="none", log_target=True).sum(dim=1)
