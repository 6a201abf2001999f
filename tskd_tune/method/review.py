"""The review loss of TSKD: transform -> sequence -> extractor -> distance to the target (Eq. 4 to 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Output, exact
from tskd_tune.errors import InputError
from tskd_tune.method.branches import IN_ORDER, Branches
from tskd_tune.method.extractors import Extractor
from tskd_tune.method.padding import Padding
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Transform
from tskd_tune.method.transforms.base import check_maps


@dataclass(frozen=True)
class ReviewTerms:
    """What a review finds in a batch.

    Attributes:
        loss: L_ST of Eq. 8, a scalar, not multiplied by lambda.
        teacher_gap: the mean of ``|A_T - A_S|`` over the batch, the pixels and the taps, a scalar without gradient. If
            the loss falls but the gap does not, the extractor predicts the gap but the student does not close the gap.
    """

    loss: Tensor
    teacher_gap: Tensor


@dataclass(frozen=True)
class _Maps:
    """The maps ``[B*M, H, W]`` of a tap: the student's, the teacher's, the snapshots', and what is inside the images.

    M is the number of maps per image that the transform makes; B*M are the samples from here on.
    """

    current: Tensor
    teacher: Tensor
    past: list[Tensor]
    inside: Tensor | None


class ReviewLoss(nn.Module):
    """L_ST: how far the predicted increment is from the one that leads to the teacher (TSKD, Eq. 8).

    >>> from tskd_tune.contracts import Shapes
    >>> from tskd_tune.method.extractors import LastStep, build_extractors
    >>> from tskd_tune.method.transforms import Attention
    >>> from tskd_tune.networks import NETWORKS
    >>> student, teacher = (NETWORKS.build(name, 10) for name in ("resnet8", "resnet20"))
    >>> taps = Taps(student.probe(3, 32), teacher.probe(3, 32))
    >>> sequence = KnowledgeSequence()
    >>> extractors = build_extractors(LastStep, sequence.steps(2), taps.sites)
    >>> review = ReviewLoss(taps, Attention(), sequence, Target(), extractors)
    >>> images = torch.randn(4, 3, 32, 32)
    >>> memories = [student(images).detached() for _ in range(2)]
    >>> terms = review(student(images), teacher(images), memories)
    >>> terms.loss.requires_grad, terms.teacher_gap.requires_grad
    (True, False)

    Its parameters are the extractors'.

    Args:
        taps: where student and teacher are compared.
        transform: features -> maps (Eq. 10).
        sequence: maps of the snapshots and today's -> knowledge sequence (Eq. 4 and 5).
        target: today's map and the teacher's -> target (Eq. 7).
        extractors: one per tap, in the order of the taps, or a single one for all taps (Eq. 6).
        reduction: the squared errors' ``mean`` over batch and pixels, or their ``sum`` over the pixels and mean
            over the batch, and over an image's maps if the transform makes several. Of padded images only the pixels of
            the image count, and ``mean`` is the mean over the images of each image's mean.
        tap_reduction: whether the losses of the taps are added or averaged.

    Raises:
        InputError: neither one extractor nor one per tap; maps of student and teacher that cannot be compared.
    """

    def __init__(
        self,
        taps: Taps,
        transform: Transform,
        sequence: KnowledgeSequence,
        target: Target,
        extractors: Sequence[Extractor],
        *,
        reduction: Literal["mean", "sum"] = "mean",
        tap_reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        if len(extractors) not in (1, len(taps.names)):
            raise InputError(
                f"review.extractor: {len(extractors)} extractors for {len(taps.names)} taps; give one per tap, or one"
            )
        for stage, channels, size in zip(taps.names, taps.channels, taps.sites, strict=True):
            check_maps(transform, stage, channels, size)
        self.taps = taps
        self.transform = transform
        self._sequence = sequence
        self._target = target
        self.extractors = nn.ModuleList(extractors)
        self._sums_pixels = reduction == "sum"
        self._averages_taps = tap_reduction == "mean"

    def forward(
        self,
        student: Output,
        teacher: Output,
        memories: Sequence[Output],
        generator: torch.Generator | None = None,
        branches: Branches = IN_ORDER,
        *,
        padding: Padding | None = None,
    ) -> ReviewTerms:
        """Compare a student with its teacher and with its own snapshots.

        With ``padding``, the loss of a batch is the mean of the losses of its images alone, as far as the networks give
        the same features: their convolutions see the padding at the border of an image.

        Args:
            student: today's student on the batch, with its gradient.
            teacher: the teacher on the same batch; no gradient flows into it.
            memories: the k snapshots on the same batch, oldest first; no gradient flows into them.
            generator: the source of shuffled sequences.
            branches: does the work of each tap beside that of the others, unless the taps share an extractor.
            padding: what of the maps is padding, for images of different sizes; None: no image is padded.
        """
        pairs = self.taps.pairs(student, teacher, padding)
        inside = [None if padding is None else padding.inside((ours.shape[-2], ours.shape[-1])) for ours, _ in pairs]
        like = [ours for ours, _ in pairs]
        past = [self._constant(self.taps.of_student(memory, like, padding), inside) for memory in memories]
        taught = self._constant([theirs for _, theirs in pairs], inside)
        current = [self._map(*at) for at in zip(like, inside, strict=True)]
        maps = [
            _Maps(today, taught[tap], [snapshot[tap] for snapshot in past], _of_every_map(within, today))
            for tap, (today, within) in enumerate(zip(current, inside, strict=True))
        ]
        # Autocast casts the weights of a shared extractor at the first tap alone, for which no other stream would wait.
        shares = len(self.extractors) < len(maps)
        with (IN_ORDER if shares else branches).fork() as apart:
            terms = []
            for tap, at in enumerate(maps):
                work = partial(self._at_tap, tap, at, generator)
                terms.append(apart(work, at.current, at.teacher, *at.past))
        losses = torch.stack([loss for loss, _ in terms])
        gaps = torch.stack([gap for _, gap in terms])
        return ReviewTerms(losses.mean() if self._averages_taps else losses.sum(), gaps.mean())

    def not_capturable(self) -> list[str]:
        """Name the parts with which a step cannot be captured in a CUDA graph; none if it can."""
        parts = [self.transform, *self.extractors]
        names = [f"the review's {type(part).__name__}" for part in parts if not part.capturable]
        orders = [] if self._sequence.capturable else ["review.sequence_order: shuffled"]
        return [*dict.fromkeys(names), *orders]

    @torch.no_grad()
    def _constant(self, features: Sequence[Tensor], inside: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the maps ``[B*M, H, W]`` of a network without gradient, at every tap."""
        return [self._map(*at) for at in zip(features, inside, strict=True)]

    def _map(self, features: Tensor, inside: Tensor | None) -> Tensor:
        """Return the maps ``[B*M, H, W]`` of features; zero in the padding, if there is any."""
        maps: Tensor
        if inside is None:
            maps = self.transform(features)
        elif self.transform.masks:
            maps = self.transform(features, inside)
        else:
            maps = self.transform(features.where(inside.unsqueeze(1), 0))
            maps = maps.where(inside if maps.dim() == 3 else inside.unsqueeze(1), 0)
        return maps if maps.dim() == 3 else maps.flatten(0, 1)

    def _at_tap(self, tap: int, maps: _Maps, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the loss and the teacher gap of one tap, both scalars."""
        sequence, inside = self._sequence(maps.past, maps.current, generator), maps.inside
        extractor = self.extractors[tap if len(self.extractors) > 1 else 0]
        if inside is None or not extractor.masks:
            found = extractor(sequence)
        else:
            found = extractor(sequence, inside.unsqueeze(1).to(sequence.dtype))
        error = self._target.prediction_scale * exact(found).squeeze(1) - self._target(maps.current, maps.teacher)
        gap = (maps.teacher - maps.current.detach()).abs()
        return self._reduced(error.square(), inside), gap.mean() if inside is None else _mean(gap, inside)

    def _reduced(self, squares: Tensor, inside: Tensor | None) -> Tensor:
        if inside is None:
            return squares.sum((1, 2)).mean() if self._sums_pixels else squares.mean()
        return squares.where(inside, 0).sum((1, 2)).mean() if self._sums_pixels else _mean(squares, inside)


def _of_every_map(inside: Tensor | None, maps: Tensor) -> Tensor | None:
    """Return what is inside the images, ``[B, H, W]``, once for each of the maps ``[B*M, H, W]``."""
    if inside is None or len(inside) == len(maps):
        return inside
    return inside.unsqueeze(1).expand(-1, len(maps) // len(inside), -1, -1).flatten(0, 1)


def _mean(maps: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over the images of the mean over each image's pixels."""
    return (maps.where(inside, 0).sum((1, 2)) / inside.sum((1, 2))).mean()
