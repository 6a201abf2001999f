"""EKD-style distillation: teacher and student are trained together, with guided modules (Zhang et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from tskd_tune.contracts import Batch, Classified, Probe, Shapes, exact
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need
from tskd_tune.distillers.softening import divergences
from tskd_tune.distillers.stages import shared_stages
from tskd_tune.errors import InputError

Guided = Literal["none", "linear", "bottleneck"]


@DISTILLERS.register("ekd", source="EKD-style: our reading of Zhang et al., arXiv 2103.13811 (abstract only)")
class EKD(Distiller):
    """Train the teacher together with the student; the student follows its logits and those of guided modules.

    A guided module is a small classifier on a stage; both networks have one at each shared stage. Guided modules are
    used in training only. With ``a``, ``b``, ``c`` and ``e`` for the weights, in the order of the options,
    the teacher's loss is ``CE(t) + a sum_l CE(t_l)``, and the student's, beside the task's own, is
    ``a sum_l CE(s_l) + b T^2 KL(t || s) + c sum_l (T^2 KL(t_l || s_l) + e |u_l / |u_l| - v_l / |v_l||^2)``, where
    ``t_l`` and ``s_l`` are the logits and ``u_l`` and ``v_l`` the embeddings of the modules at stage ``l``; every
    divergence and distance is a mean over the batch.
    """

    needs = frozenset({Need.LOGITS, Need.FEATURES, Need.TRAINABLE_TEACHER})
    in_pieces = True

    def __init__(
        self,
        probe: Probe,
        *,
        guided: Guided = "bottleneck",
        auxiliary_weight: NonNegativeFloat = 0.3,
        weight: NonNegativeFloat = 1.0,
        guided_weight: NonNegativeFloat = 1.0,
        embedding_weight: NonNegativeFloat = 0.0,
        temperature: PositiveFloat = 4.0,
        width: PositiveInt = 64,
        stop_gradient: bool = True,
        freeze_teacher_after: NonNegativeInt | None = None,
    ) -> None:
        """Build the guided modules.

        Args:
            probe: the shapes of both networks.
            guided: the layers of a guided module: ``linear``: a 1x1 convolution to ``width`` channels, their mean over
                the pixels and a linear classifier; ``bottleneck``: the same with a batch norm and a ReLU after the
                convolution; ``none``: no guided modules.
            auxiliary_weight: a, weight of the guided modules' own cross-entropy, in both networks.
            weight: b, weight of the divergence of the logits.
            guided_weight: c, weight of the loss between the student's and the teacher's guided modules.
            embedding_weight: e, weight of the distance of the normalized embeddings, within ``guided_weight``.
            temperature: T, the divisor of the logits in every divergence; a larger T gives softer probabilities.
            width: length of a guided module's embedding.
            stop_gradient: true: the student does not change its teacher; false: the losses of the student train the
                teacher too, as in mutual learning.
            freeze_teacher_after: last epoch, counted from 0, in which the teacher learns; null: it learns in all
                epochs.

        Raises:
            InputError: the teacher lacks a stage of the student, or an option does not apply.
        """
        super().__init__()
        _check(guided, auxiliary_weight, guided_weight, embedding_weight, width)
        if guided != "none" and stop_gradient:
            _refuse_untrained(auxiliary_weight)
        self.stages = () if guided == "none" else shared_stages(probe, "ekd")
        self.student_guides = _guides(probe.student, self.stages, guided, width, probe.classes)
        self.teacher_guides = _guides(probe.teacher, self.stages, guided, width, probe.classes)
        self.auxiliary_weight = auxiliary_weight
        self.weight = weight
        self.guided_weight = guided_weight
        self.embedding_weight = embedding_weight
        self.temperature = temperature
        self.stop_gradient = stop_gradient
        self.freeze_teacher_after = freeze_teacher_after
        self._teacher_learns = True

    def phase(self, epoch: int) -> bool:
        """Tell whether the teacher learns: only then there is a loss of its own."""
        return self.trains_teacher(epoch)

    def trains_teacher(self, epoch: int) -> bool:
        """Tell whether the teacher learns in an epoch, counted from 0."""
        return self.freeze_teacher_after is None or epoch <= self.freeze_teacher_after

    def begin_epoch(self, epoch: int, random: torch.Generator) -> None:
        """Freeze the teacher's guided modules with the teacher."""
        self._teacher_learns = self.trains_teacher(epoch)
        self.teacher_guides.train(self._teacher_learns).requires_grad_(self._teacher_learns)

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        """Return ``teacher`` while that learns, ``guides``, ``ekd`` and ``guided`` from logits and features."""
        ours, theirs = _guesses(self.student_guides, student), _guesses(self.teacher_guides, teacher)
        losses = {"ekd": self.weight * self._divergence(student.logits, teacher.logits)}
        if self._teacher_learns:
            losses["teacher"] = _cross_entropy(teacher.logits, batch) + self._auxiliary(theirs, batch)
        if self.stages:
            losses["guides"] = self._auxiliary(ours, batch)
            gaps = [self._gap(given, wanted) for given, wanted in zip(ours, theirs, strict=True)]
            losses["guided"] = self.guided_weight * torch.stack(gaps).sum()
        return losses

    def _auxiliary(self, guesses: Sequence[tuple[Tensor, Tensor]], batch: Batch) -> Tensor:
        found = [_cross_entropy(logits, batch) for _, logits in guesses]
        return self.auxiliary_weight * sum(found, torch.zeros((), device=batch.targets.device))

    def _gap(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        """Return how far a guided module of the student is from the teacher's, a scalar."""
        gap = self._divergence(student[1], teacher[1])
        if self.embedding_weight:
            gap = gap + self.embedding_weight * self._distance(student[0], teacher[0])
        return gap

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        return self.temperature**2 * divergences(student, self._wanted(teacher), self.temperature).mean()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        given, wanted = (functional.normalize(exact(values)) for values in (student, self._wanted(teacher)))
        return (given - wanted).square().sum(dim=1).mean()

    def _wanted(self, teacher: Tensor) -> Tensor:
        return teacher.detach() if self.stop_gradient else teacher


class GuidedModule(nn.Module):
    """A small classifier on the features of a stage."""

    def __init__(self, channels: int, width: int, classes: int, *, bottleneck: bool) -> None:
        """Map ``channels`` to an embedding of ``width``, and that to logits."""
        super().__init__()
        shaped: list[nn.Module] = [nn.BatchNorm2d(width), nn.ReLU(inplace=True)] if bottleneck else []
        self.reduce = nn.Sequential(nn.Conv2d(channels, width, 1, bias=not bottleneck), *shaped)
        self.fc = nn.Linear(width, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map features ``[B, C, H, W]`` to an embedding ``[B, width]`` and logits ``[B, classes]``."""
        embedding = self.reduce(features).mean(dim=(2, 3))
        return embedding, self.fc(embedding)


def _guides(shapes: Shapes, stages: Sequence[str], guided: Guided, width: int, classes: int) -> nn.ModuleDict:
    bottleneck = guided == "bottleneck"
    return nn.ModuleDict(
        {stage: GuidedModule(shapes.features[stage][0], width, classes, bottleneck=bottleneck) for stage in stages}
    )


def _guesses(guides: nn.ModuleDict, output: Classified) -> list[tuple[Tensor, Tensor]]:
    """Return the embedding ``[B, width]`` and the logits ``[B, classes]`` of the guided module of every stage."""
    return [guide(output.features[stage]) for stage, guide in guides.items()]


def _cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return functional.cross_entropy(exact(logits), batch.targets)


def _check(guided: Guided, auxiliary: float, guided_weight: float, embedding: float, width: int) -> None:
    """Refuse options that were set although they do not apply."""
    own = {"embedding_weight": (embedding, 0.0)}
    if guided == "none":
        weights = {"auxiliary_weight": (auxiliary, 0.3), "guided_weight": (guided_weight, 1.0)}
        _refuse_idle("without guided modules; choose guided: bottleneck", **weights, **own, width=(width, 64))
    if guided_weight == 0:
        _refuse_idle("while guided_weight is 0; raise guided_weight", **own)


def _refuse_untrained(auxiliary_weight: float) -> None:
    """Refuse a teacher whose guided modules no loss would train."""
    if auxiliary_weight == 0:
        raise InputError(
            "distiller.auxiliary_weight: 0 leaves the guided modules of the 'ekd' teacher untrained; raise"
            " auxiliary_weight, set stop_gradient: false, or choose guided: none"
        )


def _refuse_idle(why: str, **options: tuple[float, float]) -> None:
    """Refuse an option, ``(given, default)``, that was set although it does not apply."""
    changed = [name for name, (given, default) in options.items() if given != default]
    if changed:
        raise InputError(f"distiller.{changed[0]}: 'ekd' does not use {changed[0]} {why}, or leave {changed[0]} out")
