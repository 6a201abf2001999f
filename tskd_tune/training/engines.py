"""Chooses what carries out the steps of a training: captured graphs where these can be had, Python otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from tskd_tune.contracts import Out
from tskd_tune.errors import InputError
from tskd_tune.method.memory import Frozen
from tskd_tune.training.engine import EagerEngine, Engine, EngineFactory, Parts
from tskd_tune.training.graph_engine import GraphEngine

Graphs = Literal["auto", "always", "never"]


def engine_for(graphs: Graphs) -> EngineFactory[Out]:
    """Return what makes the engine of a training under an option ``training.graphs``.

    Raises:
        InputError: (when the engine is made) ``always``, and there is no GPU or a part cannot be captured.
    """

    def make(parts: Parts[Out]) -> Engine:
        if graphs == "never":
            return EagerEngine(parts, "training.graphs is never")
        obstacle = _obstacle(parts)
        if obstacle is None:
            compiled = "; the student is compiled" if parts.compute.compiles else ""
            return GraphEngine(parts, f"on a GPU, and every part can be captured{compiled}")
        if graphs == "always":
            raise InputError(
                f"training.graphs: 'always', but {obstacle}; set training.graphs: auto, which then does without graphs"
            )
        return EagerEngine(parts, obstacle)

    return make


def _obstacle(parts: Parts[Out]) -> str | None:
    """Say why a training cannot be captured; None if it can."""
    if parts.compute.device.type != "cuda":
        found = "there is one" if torch.cuda.is_available() else "this machine shows none"
        return f"graphs need a GPU ({found}), and the training computes on the CPU"
    named = [*_not_capturable(parts)]
    if not named:
        return None
    return f"no graph can hold {' and '.join(named)} (capturable is False)"


def _not_capturable(parts: Parts[Out]) -> Iterator[str]:
    """Name the parts that declare that a step with them cannot be captured."""
    teacher = parts.teacher.network if isinstance(parts.teacher, Frozen) else parts.teacher
    named = {
        "student": parts.student,
        "teacher": teacher,
        "distiller": parts.distiller,
        "objective of the task": parts.objective,
    }
    for name, part in named.items():
        if part is not None and not getattr(part, "capturable", True):
            yield f"the {name} {type(part).__name__}"
    if parts.review is not None:
        yield from parts.review.loss.not_capturable()
