"""Compares the package's numbers with the reference's, and refuses a difference that a variant may not have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from benchmarks.reference import Loop
from benchmarks.rows import Exactness
from benchmarks.workload import CLASSES, SEED, Variant, Workload, reproducible
from tskd_tune.training.streams import Streams
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
    "rounding": Limits(losses=1e-3, changes=0.3),
    "changes results": Limits(losses=0.02, changes=0.9),
}
STEPS_OF_EACH_KIND = {"cpu": 2, "cuda": 6}
"""Two, as the first review step also measures gradients; more where the third step of a kind is captured."""


SHORT, LEAST = 6, 1e-300


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
    with reproducible():
        found = _difference(workload, variant, device, steps)
    compared = f"mean loss, and changes of all weights, in {steps} steps of each kind, ours and the reference's"
    return judged(variant.name, found, declared, compared)


def same_bits(workload: Workload, variant: Variant, other: Variant, device: torch.device) -> Found:
    """Train a short epoch in two variants, and compare all bits of the students.

    Raises:
        ExactnessError: a bit differs.
    """
    short = replace(workload, general=max(SHORT, -(-CLASSES // workload.batch_size)), tested=0)
    short = replace(short, reviews=SHORT if workload.reviews else 0)
    ours, theirs = (_trained(short, each, device) for each in (variant, other))
    difference = 0.0 if torch.equal(ours, theirs) else max(float((ours - theirs).norm() / theirs.norm()), LEAST)
    compared = f"all bits of two students after {short.steps} steps"
    return judged(f"{variant.name} and {other.name}", Limits(0.0, difference), "bitwise", compared)


def _trained(workload: Workload, variant: Variant, device: torch.device) -> Tensor:
    trainer = workload.trainer(variant, device)
    trainer.begin(workload.epoch)
    trainer.epoch()
    return flat(trainer.student.state_dict().values())


def _difference(workload: Workload, variant: Variant, device: torch.device, steps: int) -> Limits:
    """Compare after the first review steps of an epoch, if it has any, and as many general ones."""
    reviews = steps if workload.reviews else 0
    least = -(-CLASSES // workload.batch_size)  # an epoch shows at least one image of each class
    short = replace(workload, reviews=reviews, general=max(steps, least))
    trainer = short.trainer(variant, device)
    loop = short.loop(trainer, device)
    before = [flat(group) for group in _groups(loop)]
    trainer.begin(short.epoch)
    draws = trainer.feed.draws(Streams(SEED, short.epoch))  # those of the epoch, which the training draws for itself
    for kind, draw in islice(zip(trainer.steps(), draws, strict=True), reviews + steps):
        batch = trainer.feed.batch(draw)
        loop.step(batch.images, batch.targets, review=kind.review)
    trainer.compute.synchronize()
    triples = zip(_groups(trainer), _groups(loop), before, strict=True)
    changes = max(relative(flat(ours), flat(theirs), start) for ours, theirs, start in triples)
    return Limits(abs(trainer.engine.means()["loss"] / loop.meters[0].mean - 1), changes)


def _groups(of: Trainer | Loop) -> list[list[Tensor]]:
    """Return the parameters of the student and, where there are any, those of the extractors."""
    if isinstance(of, Loop):
        groups = [list(of.student.parameters()), list(of.extractors.parameters())]
    else:
        groups = [list(of.student.parameters()), [] if of.review is None else of.review.parameters()]
    return [[parameter.detach() for parameter in group] for group in groups if group]


def relative(ours: Tensor, theirs: Tensor, before: Tensor) -> float:
    """Return the norm of the difference, as a share of the norm of what their steps changed."""
    return float((ours - theirs).norm() / (theirs - before).norm())


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return all values as one vector of float64, on the CPU."""
    return torch.cat([tensor.detach().cpu().double().flatten() for tensor in tensors])
