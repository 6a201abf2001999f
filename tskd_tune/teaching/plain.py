"""The teacher of nearly every paper: trained on its task alone, as a student without a teacher is."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tskd_tune.contracts import Batch, Output
from tskd_tune.teaching.base import TEACHER_METHODS, Setting, TeacherMethod


@TEACHER_METHODS.register("plain", source="the task's loss alone")
class Plain(TeacherMethod):
    """No loss beside the task's."""

    separable = True

    def __init__(self, setting: Setting) -> None:
        """Need nothing."""
        super().__init__()

    def forward(self, network: Output, above: Output | None, batch: Batch) -> Mapping[str, Tensor]:
        """Return no losses."""
        return {}
