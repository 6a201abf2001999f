"""Which stages of student and teacher a distiller compares, and how maps of two sizes are brought to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from tskd_tune.contracts import STEM, Classified, Probe, Shapes
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.method.taps import pooled

Who = Literal["student", "teacher"]


def shared_stages(probe: Probe, name: str) -> tuple[str, ...]:
    """Return the student's stages without the stem, shallow to deep; the teacher must have stages of the same names.

    Args:
        probe: the shapes of both networks.
        name: the distiller's, which messages begin with.

    Raises:
        InputError: the teacher lacks a stage of the student.
    """
    stages = tuple(stage for stage in probe.student.features if stage != STEM)
    missing = [stage for stage in stages if stage not in probe.teacher.features]
    if missing or not stages:
        raise InputError(
            f"distiller: '{name}' compares the student's stages ({', '.join(stages) or 'none'}) with the teacher's"
            f" ({', '.join(probe.teacher.features)}), which lacks {missing[0] if missing else 'any'}; choose a teacher"
            " with as many stages, or a distiller that reads logits or embeddings"
        )
    return stages


def require_stage(probe: Probe, stage: str, name: str) -> None:
    """Refuse networks that do not both have a stage, the stem or another, that an option asks for.

    Raises:
        InputError: the student or the teacher lacks it.
    """
    for who, shapes in (("student", probe.student), ("teacher", probe.teacher)):
        if stage not in shapes.features:
            raise InputError(
                f"distiller: '{name}' compares the stage '{stage}', which the {who} lacks"
                f"{did_you_mean(stage, shapes.features)}"
            )


def own_stages(shapes: Shapes, name: str, who: Who) -> tuple[str, ...]:
    """Return a network's stages without the stem, shallow to deep, for distillers that choose the pairs themselves.

    Raises:
        InputError: there are none.
    """
    stages = tuple(stage for stage in shapes.features if stage != STEM)
    if not stages:
        raise InputError(
            f"distiller: '{name}' compares stages, but the {who} has none behind its stem; choose another {who}, or a"
            " distiller that reads logits or embeddings"
        )
    return stages


def require_preactivations(shapes: Shapes, stages: Sequence[str], name: str, who: Who) -> None:
    """Refuse a network that does not show every one of the stages before its activation.

    Raises:
        InputError: a pre-activation is missing.
    """
    missing = [stage for stage in stages if stage not in shapes.preactivations]
    if missing:
        raise InputError(
            f"distiller: '{name}' reads the {who}'s stages before their activation, but there is no such map of"
            f" '{missing[0]}' (known: {', '.join(shapes.preactivations) or 'none'}); choose another {who}, or a"
            " distiller that reads features"
        )


def with_larger_pooled(student: Classified, teacher: Classified, stage: str) -> tuple[Tensor, Tensor]:
    """Return a stage's features of both, ``[B, C_s, H, W]`` and ``[B, C_t, H, W]``, the larger map averaged down."""
    given, wanted = student.features[stage], teacher.features[stage]
    height, width = min(given.shape[-2], wanted.shape[-2]), min(given.shape[-1], wanted.shape[-1])
    return pooled(given, (height, width)), pooled(wanted, (height, width))
