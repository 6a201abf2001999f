"""Chooses what carries out the steps of a training: captured graphs where these can be had, Python otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch

from tskd_tune.contracts import Out
from tskd_tune.errors import InputError
from tskd_tune.method.memory import Frozen
from tskd_tune.training.compiling import compiling
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.optim import capturable
from tskd_tune.training.parallel_engine import ParallelEngine, gathers
from tskd_tune.training.parts import Engine, EngineFactory, Parts

Graphs = Literal["auto", "always", "never"]


def engine_for(graphs: Graphs) -> EngineFactory[Out]:
    """Return what makes the engine of a training under an option ``training.graphs``.

    Raises:
        InputError: (when the engine is made) ``always``, and there is no GPU, a part cannot be captured, or several
            workers share the training.
    """

    def make(parts: Parts[Out]) -> Engine:
        _refuse_whole_batches(parts)
        parts, compiled = compiling(parts)
        if parts.compute.world > 1:
            if graphs == "always":
                raise InputError(
                    f"training.graphs: 'always', but {parts.compute.world} workers share the training, and no graph can"
                    " hold what they exchange; set training.graphs: auto"
                )
            return ParallelEngine(parts, f"{parts.compute.world} workers share each batch")
        if graphs == "never":
            return EagerEngine(parts, f"training.graphs is never{compiled}")
        obstacle = _obstacle(parts)
        if obstacle is None:
            return GraphEngine(parts, f"on a GPU, and every part can be captured{compiled}")
        if graphs == "always":
            raise InputError(
                f"training.graphs: 'always', but {obstacle}; set training.graphs: auto, which then does without graphs"
            )
        return EagerEngine(parts, f"{obstacle}{compiled}")

    return make


def _refuse_whole_batches(parts: Parts[Out]) -> None:
    """Refuse micro-batches where a loss compares the samples of a whole batch.

    Raises:
        InputError: with the component.
    """
    if parts.compute.accumulate > 1 and gathers(parts.distiller) and not parts.distiller.in_pieces:
        raise InputError(
            f"training.accumulate: {parts.compute.accumulate} micro-batches, but {type(parts.distiller).__name__} needs"
            " the outputs of a whole batch (its loss compares samples, or it keeps a state for each sample); set"
            " training.accumulate: 1, or choose a method whose loss is a mean over samples, such as kd or fitnet"
        )


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
    for optimizer in parts.optimizers:
        if not capturable(optimizer):
            yield f"the optimizer {type(optimizer).__name__}"
    if parts.review is not None:
        yield from parts.review.loss.not_capturable()
