"""Knowledge sequences and targets: from the maps of the snapshots and of the current student.

TSKD, Eq. 4 (increment), Eq. 5 (sequence of increments), Table 5 (sequence of feature maps), Eq. 7 (absolute increment).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from tskd_tune.errors import InputError

_INCREMENTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "signed": lambda change: change,
    "squared": torch.square,
}


def _shuffled(elements: list[Tensor], generator: torch.Generator | None) -> list[Tensor]:
    if generator is None:
        raise InputError("review.sequence_order: shuffled needs a random generator, got none; pass one")
    order = torch.randperm(len(elements), generator=generator, device=generator.device)
    return [elements[index] for index in order.tolist()]


_ORDERS: Mapping[str, Callable[[list[Tensor], torch.Generator | None], list[Tensor]]] = {
    "forward": lambda elements, _: elements,
    "reversed": lambda elements, _: elements[::-1],
    "shuffled": _shuffled,
    "repeat_last": lambda elements, _: elements[-1:] * len(elements),
    "zeros": lambda elements, _: [torch.zeros_like(element) for element in elements],
    # In this control arm the memory holds networks that were never trained.
    "random_memory": lambda elements, _: elements,
}


class KnowledgeSequence:
    """The knowledge sequence Q of one tap (TSKD, Eq. 4 and 5).

    >>> first, second, today = torch.zeros(1, 2, 2), torch.ones(1, 2, 2), torch.full((1, 2, 2), 4.0)
    >>> increments = KnowledgeSequence()([first, second], today)
    >>> increments.shape, increments.flatten(1).amax(1)
    (torch.Size([2, 1, 1, 2, 2]), tensor([1., 3.]))

    Args:
        sequence: the elements of a knowledge sequence. ``increment``: the changes from each remembered map to the next
            and from the last one to today's, k elements; ``feature_map``: the maps themselves, k remembered and today's
            (the paper's Table 5).
        increment_kind: how the change from an earlier map A_i to a later map A_j is taken: ``abs``: ``|A_j - A_i|``
            (Eq. 4); ``signed``: ``A_j - A_i``; ``squared``: its square.
        sequence_order: order of the elements, for control arms. ``reversed``, ``shuffled`` (a new order at each step),
            ``repeat_last`` and ``zeros`` rearrange or replace the elements; ``random_memory`` keeps their order, but
            the memory holds untrained networks.
        include_current: whether a sequence of feature maps ends with today's map.
        sequence_gradient: whether the gradient reaches the student through today's map in the sequence.

    Raises:
        InputError: an option has no effect together with the others.
    """

    def __init__(
        self,
        *,
        sequence: Literal["increment", "feature_map"] = "increment",
        increment_kind: Literal["abs", "signed", "squared"] = "abs",
        sequence_order: Literal["forward", "reversed", "shuffled", "repeat_last", "zeros", "random_memory"] = "forward",
        include_current: bool = True,
        sequence_gradient: Literal["attach", "detach"] = "attach",
    ) -> None:
        self._is_increment = sequence == "increment"
        self._kind = increment_kind
        self._order = sequence_order
        self._include_current = include_current
        self._attached = sequence_gradient == "attach"
        self._check()

    @property
    def capturable(self) -> bool:
        """Whether one captured CUDA graph can stand for all steps: not if each step draws an order on the CPU."""
        return self._order != "shuffled"

    def steps(self, k: int) -> int:
        """Return the length T of the sequence made of k memories.

        Raises:
            InputError: a single element has no order to change.
        """
        steps = k if self._is_increment or not self._include_current else k + 1
        if steps == 1 and self._order in ("reversed", "shuffled", "repeat_last"):
            raise InputError(
                f"review.sequence_order: {self._order} needs at least 2 elements, but with k = {k} the sequence "
                "has 1; raise k, or use forward"
            )
        return steps

    def __call__(self, memories: Sequence[Tensor], current: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Make the sequence ``[T, B, 1, H, W]``, oldest first.

        Args:
            memories: the maps ``[B, H, W]`` of the k snapshots, oldest first.
            current: today's map ``[B, H, W]``.
            generator: the source of the shuffled orders.
        """
        today = current if self._attached else current.detach()
        elements = self._increments([*memories, today]) if self._is_increment else self._maps(memories, today)
        return torch.stack(_ORDERS[self._order](elements, generator)).unsqueeze(2)

    def _increments(self, maps: list[Tensor]) -> list[Tensor]:
        kind = _INCREMENTS[self._kind]
        return [kind(later - earlier) for earlier, later in pairwise(maps)]

    def _maps(self, memories: Sequence[Tensor], today: Tensor) -> list[Tensor]:
        return [*memories, today] if self._include_current else list(memories)

    def _check(self) -> None:
        if not self._is_increment and self._kind != "abs":
            raise InputError(
                f"review.increment_kind: does not apply to sequence: feature_map, got {self._kind}; leave it out"
            )
        if self._is_increment and not self._include_current:
            raise InputError(
                "review.include_current: does not apply to sequence: increment, whose last element always involves "
                "today's map, got false; leave it out, or use sequence: feature_map"
            )
        if not self._attached and not self._include_current:
            raise InputError(
                "review.sequence_gradient: does not apply without today's map (include_current: false), got detach; "
                "leave it out"
            )
        if self._order == "zeros" and (self._kind != "abs" or not self._attached):
            name, value = ("increment_kind", self._kind) if self._attached else ("sequence_gradient", "detach")
            raise InputError(f"review.{name}: does not apply to sequence_order: zeros, got {value}; leave it out")


class Target:
    """What the extractor's prediction is compared with (TSKD, Eq. 7).

    The teacher's map has no gradient: the review never trains the teacher.

    >>> Target()(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.5, 5.0]]]))
    tensor([[[0.5000, 3.0000]]])

    Args:
        kind: the target. ``absolute_increment``: ``|A_T - A_S|`` of the maps of teacher and student, absolute for every
            kind of increment (Eq. 7); ``teacher_map``: ``A_T``, for sequences of feature maps; no gradient reaches the
            student through it.
        gradient: whether the gradient reaches the student through the target.
        prediction_scale: factor of the prediction in the loss; with 0 the review is attention transfer in the review
            epochs.

    Raises:
        InputError: options that do not apply to a target of teacher maps.
    """

    def __init__(
        self,
        *,
        kind: Literal["absolute_increment", "teacher_map"] = "absolute_increment",
        gradient: Literal["attach", "detach"] = "attach",
        prediction_scale: float = 1.0,
    ) -> None:
        self._is_teacher_map = kind == "teacher_map"
        self._attached = gradient == "attach"
        self.prediction_scale = prediction_scale
        if self._is_teacher_map:
            self._check_teacher_map()

    def __call__(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Make the target ``[B, H, W]`` from today's map of the student and the teacher's, ``[B, H, W]`` each."""
        constant = teacher_map.detach()
        if self._is_teacher_map:
            return constant
        gap = (constant - student_map).abs()
        return gap if self._attached else gap.detach()

    def _check_teacher_map(self) -> None:
        if not self._attached:
            raise InputError(
                "review.target.gradient: does not apply to kind: teacher_map, in which the student has no part, "
                "got detach; leave it out"
            )
        if self.prediction_scale == 0:
            raise InputError(
                "review.target.prediction_scale: 0 with kind: teacher_map leaves a constant loss that trains "
                "nothing; use another scale, or kind: absolute_increment"
            )
