"""The teacher's part in a training: whether it learns beside the student, in which epochs, and what a resume needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from torch import nn

from tskd_tune.contracts import Out, Saved
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.teaching.base import TeacherMethod


@dataclass(frozen=True)
class TeacherRole(Generic[Out]):
    """What a distiller does with the teacher.

    Attributes:
        network: the teacher; None where there is none.
        distiller: what decides whether the teacher learns.
    """

    network: nn.Module | None
    distiller: Distiller[Out] | TeacherMethod[Out]

    @property
    def is_online(self) -> bool:
        """Whether there is a teacher that is trained beside the student, in some epochs at least."""
        return self.network is not None and Need.TRAINABLE_TEACHER in self.distiller.needs

    def learns(self, epoch: int) -> bool:
        """Tell whether the teacher is trained in an epoch."""
        return isinstance(self.distiller, Distiller) and self.distiller.trains_teacher(epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Set the modes of the teacher; a frozen teacher stays as it is."""
        if self.network is not None:
            learns = self.learns(epoch)
            self.network.train(learns).requires_grad_(learns)

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are trained; none of a teacher that does not learn."""
        return list(self.network.parameters()) if self.network is not None and self.is_online else []

    def state_dict(self) -> Saved | None:
        """Return the state of a teacher that changes; None for a teacher that stays as its file has it.

        A teacher changes that learns, or whose batch norms move.
        """
        network = self.network
        if network is None or not (self.is_online or any(module.training for module in network.modules())):
            return None
        return network.state_dict()

    def load_state_dict(self, state: Saved | None) -> None:
        """Restore what `state_dict` returned."""
        if self.network is not None and state is not None:
            self.network.load_state_dict(state)
