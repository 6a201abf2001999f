"""Compares the package's numbers with the reference's, and refuses a difference that a variant may not have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from benchmarks.reference import Loop
from benchmarks.rows import Exactness
from benchmarks.workload import Variant, Workload, reproducible
from tskd_tune.training.trainer import Trainer


@dataclass(frozen=True)
class Limits:
    """Relative differences.

    Attributes:
        losses: of the mean loss.
        changes: of what the steps changed in the weights: the norm of the difference as a share of the norm of the
            change.
    """

    losses: float
    changes: float


# A loss is a mean over the batch. A change of the weights differs more: in new networks many activations lie near zero,
# so a rounding decides whether an activation passes a gradient. In float32 with channels first, 32 images, the gradient
# differs by 0.7 % from the one in float64, and with channels last by 2.2 %. A wrong gradient differs by 100 % or more.
LIMITS: dict[Exactness, Limits] = {
    "bitwise": Limits(losses=0.0, changes=0.0),
    "rounding": Limits(losses=1e-3, changes=0.2),
    "changes results": Limits(losses=0.02, changes=0.9),
}
STEPS_OF_EACH_KIND = {"cpu": 1, "cuda": 4}  # a graph is captured the third time


class ExactnessError(Exception):
    """A figure whose numbers differ more than its variant may change them."""


@dataclass(frozen=True)
class Found:
    """How the numbers of a variant differ.

    Attributes:
        exactness: the class of the difference.
        difference: the relative difference, 0 if every bit is equal.
        compared: what was compared.
    """

    exactness: Exactness
    difference: float
    compared: str


def judged(name: str, found: Limits, declared: Exactness, compared: str) -> Found:
    """Return the class of a difference; ``difference`` is that of the changes.

    Raises:
        ExactnessError: the difference is larger than the declared class allows, or is no number.
    """
    limits = LIMITS[declared]
    if not (found.losses <= limits.losses and found.changes <= limits.changes):
        raise ExactnessError(
            f"{name}: declared as '{declared}', for which losses may differ by {limits.losses:g} and weights by"
            f" {limits.changes:g}, but {compared} differ by {found.losses:.3g} and {found.changes:.3g}; such a"
            " figure would compare different computations"
        )
    return Found("bitwise" if found == LIMITS["bitwise"] else declared, found.changes, compared)


def against_reference(workload: Workload, variant: Variant, device: torch.device) -> Found:
    """Take the same steps in the package and in the reference loop, and compare losses and changes of the weights.

    Raises:
        ExactnessError: see `judged`.
    """
    declared: Exactness = "changes results" if variant.precision == "bfloat16" else "rounding"
    steps = STEPS_OF_EACH_KIND[device.type]
    kinds = [True] * (steps if workload.reviews else 0) + [False] * steps
    with reproducible():
        found = _difference(workload, variant, device, kinds)
    compared = f"mean loss, and changes of all weights, in {len(kinds)} steps of ours and of the reference"
    return judged(variant.name, found, declared, compared)


def _difference(workload: Workload, variant: Variant, device: torch.device, kinds: list[bool]) -> Limits:
    trainer = workload.trainer(variant, device)
    loop = workload.loop(trainer, device)
    before = [flat(group) for group in _groups(loop)]
    trainer.begin(workload.epoch)
    draws = islice(trainer.feed.draws(), len(kinds))
    for draw, review in zip(draws, kinds, strict=True):
        batch = trainer.feed.batch(draw)
        # The step after the last review is general; the first review also looks, so it is not compared.
        kind = trainer.kind(workload.epoch, 1 if review else max(workload.reviews, 1))
        with trainer.compute.deterministic():
            trainer.engine.step(trainer.feed, draw, kind)
        loop.step(batch.images.float(), batch.targets, review=review)
    triples = zip(_groups(trainer), _groups(loop), before, strict=True)
    changes = max(_relative(flat(ours), flat(theirs), start) for ours, theirs, start in triples)
    return Limits(abs(trainer.engine.means()["loss"] / loop.meters[0].mean - 1), changes)


def _groups(of: Trainer | Loop) -> list[list[Tensor]]:
    """Return the parameters of the student and, where there are any, those of the extractors."""
    if isinstance(of, Loop):
        groups = [list(of.student.parameters()), list(of.extractors.parameters())]
    else:
        groups = [list(of.student.parameters()), [] if of.review is None else of.review.parameters()]
    return [[parameter.detach() for parameter in group] for group in groups if group]


def _relative(ours: Tensor, theirs: Tensor, before: Tensor) -> float:
    """Return the norm of the difference, as a share of the norm of what their steps changed."""
    return float((ours - theirs).norm() / (theirs - before).norm())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return all values as one vector of float64, on the CPU."""
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])
