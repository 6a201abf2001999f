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
from tskd_tune.method.sequences import KnowledgeSequence, Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import Transform


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
            over the batch.
        tap_reduction: whether the losses of the taps are added or averaged.

    Raises:
        InputError: neither one extractor nor one per tap.
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
    ) -> ReviewTerms:
        """Compare a student with its teacher and with its own snapshots.

        Args:
            student: today's student on the batch, with its gradient.
            teacher: the teacher on the same batch; no gradient flows into it.
            memories: the k snapshots on the same batch, oldest first; no gradient flows into them.
            generator: the source of shuffled sequences.
            branches: does the work of each tap beside that of the others.
        """
        pairs = self.taps.pairs(student, teacher)
        past = self._past(memories, [ours for ours, _ in pairs])
        maps = [(self.transform(ours), self._constant(theirs)) for ours, theirs in pairs]
        with branches.fork() as apart:
            terms = []
            for tap, (ours, theirs) in enumerate(maps):
                earlier = [snapshot[tap] for snapshot in past]
                work = partial(self._at_tap, tap, ours, theirs, earlier, generator)
                terms.append(apart(work, ours, theirs, *earlier))
        losses = torch.stack([loss for loss, _ in terms])
        gaps = torch.stack([gap for _, gap in terms])
        return ReviewTerms(losses.mean() if self._averages_taps else losses.sum(), gaps.mean())

    def not_capturable(self) -> list[str]:
        """Name the parts with which a step cannot be captured in a CUDA graph; none if it can."""
        parts = [self.transform, *self.extractors]
        names = [f"the review's {type(part).__name__}" for part in parts if not part.capturable]
        orders = [] if self._sequence.capturable else ["review.sequence_order: shuffled"]
        return [*dict.fromkeys(names), *orders]

    def _past(self, memories: Sequence[Output], like: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return the maps ``[B, H, W]`` of every snapshot, oldest first, at every tap."""
        features = [self.taps.of_student(memory, like) for memory in memories]
        return [[self._constant(map_) for map_ in maps] for maps in features]

    @torch.no_grad()
    def _constant(self, features: Tensor) -> Tensor:
        maps: Tensor = self.transform(features)
        return maps

    def _at_tap(
        self, tap: int, current: Tensor, teacher: Tensor, past: list[Tensor], generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss and the teacher gap of one tap, both scalars."""
        sequence = self._sequence(past, current, generator)
        extractor = self.extractors[tap if len(self.extractors) > 1 else 0]
        prediction = exact(extractor(sequence)).squeeze(1)
        error = self._target.prediction_scale * prediction - self._target(current, teacher)
        return self._reduced(error.square()), (teacher - current.detach()).abs().mean()

    def _reduced(self, squares: Tensor) -> Tensor:
        return squares.sum((1, 2)).mean() if self._sums_pixels else squares.mean()
