"""The usual teacher, trained with the task loss alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tskd_tune.contracts import Batch, Classified
from tskd_tune.teaching.base import TEACHER_METHODS, Setting, TeacherMethod


@TEACHER_METHODS.register("plain", source="the task's loss alone")
class Plain(TeacherMethod):
    """No loss beside the task loss."""

    separable = True

    def __init__(self, setting: Setting) -> None:
        """Use nothing of the setting."""
        super().__init__()

    def forward(self, network: Classified, above: Classified | None, batch: Batch) -> Mapping[str, Tensor]:
        """Return no losses."""
        return {}
