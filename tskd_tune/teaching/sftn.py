"""SFTN: the teacher is trained together with branches of its student (Park et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import STEM, Batch, Classified, Shapes, exact
from tskd_tune.errors import InputError
from tskd_tune.method.taps import pooled
from tskd_tune.teaching.base import TEACHER_METHODS, Need, Setting, TeacherMethod


@TEACHER_METHODS.register(
    "sftn", source="Park, Cha, Jeong, Kim and Han 2021, arXiv 2102.07650; weights and feature transform: our reading"
)
class SFTN(TeacherMethod):
    """Train the teacher so that student branches on its stages agree with the teacher and with the labels.

    Behind each stage except the last there is a branch: a feature transform to the student's shape, then the rest of a
    new student. The loss is ``task_weight CE(t) + kl_weight T^2 mean_i KL(t || r_i) + branch_weight mean_i CE(r_i)``,
    where t and r_i are the logits of the teacher and of branch i. The gradients of all terms reach the teacher. The
    branches are dropped after the training.
    """

    needs = frozenset({Need.LOGITS, Need.FEATURES, Need.STUDENT})
    in_pieces = True

    def __init__(
        self,
        setting: Setting,
        *,
        task_weight: NonNegativeFloat = 1.0,
        kl_weight: NonNegativeFloat = 3.0,
        branch_weight: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 1.0,
    ) -> None:
        """Build the branches, and set the weights of the teacher's task, of the divergences and of the branches' task.

        Args:
            task_weight: weight of the teacher's own cross-entropy.
            kl_weight: weight of the divergence of the branches from the teacher.
            branch_weight: weight of the branches' own cross-entropy.
            temperature: T, the divisor of the logits in the divergence; a larger T gives softer probabilities.

        Raises:
            InputError: the student cannot be entered behind a stage, or the networks share none to enter at.
        """
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                stage: Branch(setting.teacher.features[stage], setting.student.features[stage], setting.tail(stage))
                for stage in _entries(setting.teacher, setting.student)
            }
        )
        self.task_weight = task_weight
        self.kl_weight = kl_weight
        self.branch_weight = branch_weight
        self.temperature = temperature

    def forward(self, network: Classified, above: Classified | None, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``branches_kl`` and ``branches`` from the features and logits of the teacher."""
        guesses = [exact(branch(network.features[stage])) for stage, branch in self.branches.items()]
        gaps = torch.stack([self._divergence(guess, network.logits) for guess in guesses])
        mistakes = torch.stack([functional.cross_entropy(guess, batch.targets) for guess in guesses])
        return {"branches_kl": self.kl_weight * gaps.mean(), "branches": self.branch_weight * mistakes.mean()}

    def _divergence(self, branch: Tensor, teacher: Tensor) -> Tensor:
        given, wanted = ((exact(logits) / self.temperature).log_softmax(dim=1) for logits in (branch, teacher))
        gap = functional.kl_div(given, wanted, reduction="batchmean", log_target=True)
        return self.temperature**2 * gap


class Branch(nn.Module):
    """A student branch on a teacher's stage: a feature transform, and a student's layers behind that stage."""

    def __init__(self, given: Sequence[int], wanted: Sequence[int], tail: nn.Module) -> None:
        """Map maps ``[C, H, W]`` of the teacher's shape to the student's, and those to logits."""
        super().__init__()
        self._size = (wanted[1], wanted[2])
        self.transform = nn.Sequential(
            nn.Conv2d(given[0], wanted[0], 1, bias=False), nn.BatchNorm2d(wanted[0]), nn.ReLU(inplace=True)
        )
        self.tail = tail

    def forward(self, features: Tensor) -> Tensor:
        """Map the teacher's features ``[B, C, H, W]`` to logits ``[B, classes]``."""
        logits: Tensor = self.tail(self.transform(pooled(features, self._size)))
        return logits


def _entries(teacher: Shapes, student: Shapes) -> list[str]:
    """Return the student's stages without the stem and the last stage; the teacher must have these stages too."""
    stages = [stage for stage in student.features if stage != STEM][:-1]
    missing = [stage for stage in stages if stage not in teacher.features]
    if missing or not stages:
        raise InputError(
            f"teacher.training.method: 'sftn' puts the student's layers behind the teacher's stages, but of the"
            f" student's ({', '.join(student.features)}) the teacher has no {missing[0] if missing else 'inner one'};"
            " choose a teacher with as many stages, or another method"
        )
    return stages
