"""Softened logits and their divergences, shared by the distillers of logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from tskd_tune.contracts import Probe, exact
from tskd_tune.errors import InputError


def log_softened(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``log softmax(logits / T)``, ``[B, classes]``, in float32 at least; T is one number or ``[B, 1]``."""
    return functional.log_softmax(exact(logits) / temperature, dim=1)


def kl_divergences(given: Tensor, wanted: Tensor) -> Tensor:
    """Return ``KL(wanted || given)`` of every sample, ``[B]``, of log-probabilities ``[B, classes]``."""
    return functional.kl_div(given, wanted, reduction="none", log_target=True).sum(dim=1)


def divergences(student: Tensor, teacher: Tensor, temperature: float | Tensor) -> Tensor:
    """Return ``KL(softmax(t / T) || softmax(s / T))`` of every sample, ``[B]``, of logits ``[B, classes]``."""
    return kl_divergences(log_softened(student, temperature), log_softened(teacher, temperature))


def refuse_two_classes(probe: Probe | None, name: str, reason: str) -> None:
    """Refuse a task of two classes, for which a distiller of logits is not defined.

    Args:
        probe: the networks and the task; without one nothing is refused.
        name: the distiller's, which the message begins with.
        reason: what the distiller lacks there.

    Raises:
        InputError: the task has fewer than three classes.
    """
    if probe is not None and probe.classes < 3:
        raise InputError(
            f"distiller: '{name}' needs at least 3 classes, but the task has {probe.classes}: {reason}; choose kd"
        )
