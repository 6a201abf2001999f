"""Which stages of a student and its teacher a distiller compares, and how two sizes become one."""

from __future__ import annotations

from torch import Tensor

from tskd_tune.errors import InputError
from tskd_tune.method.taps import pooled
from tskd_tune.output import Output, Probe

STEM = "stem"


def shared_stages(probe: Probe, name: str) -> tuple[str, ...]:
    """Return the student's stages behind its stem, shallow to deep; the teacher must have them all, by name.

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


def with_larger_pooled(student: Output, teacher: Output, stage: str) -> tuple[Tensor, Tensor]:
    """Return a stage's features of both, ``[B, C_s, H, W]`` and ``[B, C_t, H, W]``, the larger map averaged down."""
    given, wanted = student.features[stage], teacher.features[stage]
    height, width = min(given.shape[-2], wanted.shape[-2]), min(given.shape[-1], wanted.shape[-1])
    return pooled(given, (height, width)), pooled(wanted, (height, width))
