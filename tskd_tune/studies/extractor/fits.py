"""Fits an extractor to sequences, and measures on other sequences how much of the target it explains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from tskd_tune.method.extractors import EXTRACTORS, Extractor, ExtractorSite
from tskd_tune.method.sequences import KnowledgeSequence
from tskd_tune.studies.extractor.laws import LAWS
from tskd_tune.training.streams import generator, initialization

Order: TypeAlias = Literal["forward", "reversed", "shuffled", "repeat_last", "zeros"]
ORDERS: tuple[Order, ...] = ("forward", "reversed", "shuffled", "repeat_last", "zeros")
Pair: TypeAlias = tuple[Tensor, Tensor]
"""Sequences ``[k, B, 1, H, W]``, oldest first, and what follows them, ``[B, 1, H, W]``."""

LINEAR = ("last_step", "mean", "linear", "pixel_ar")
"""The extractors whose predictions are linear in their weights, so that least squares gives the best weights."""
BATCH, RATE = 32, 0.02
LEAST_SQUARES_STEPS = 100
TO_FIT, TO_TEST = 1024, 512
CONSTANT = 1e-12


@dataclass(frozen=True)
class Fit:
    """How an extractor is fitted.

    Attributes:
        extractor: the name of the extractor.
        options: the options of the extractor.
        order: the order in which the extractor is given the maps, in the fit and on held-out sequences.
        steps: the number of steps of Adam; for extractors in `LINEAR` least squares is used instead.
    """

    extractor: str
    steps: int
    order: Order = "forward"
    options: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Job:
    """One fit to generated sequences: of a law in `LAWS`, of k maps, from a seed."""

    law: str
    k: int
    seed: int
    fit: Fit


@dataclass(frozen=True)
class Fitted:
    """How well an extractor predicts held-out sequences.

    Attributes:
        r2: 1 minus the squared error of the predictions over the squared error of the mean map of the fitted targets;
            None where the targets are constant or the fit failed.
        best: the same of the best forecast, where the best forecast is known.
        constant: whether the targets are constant.
        failed: whether the predictions are not finite.
    """

    r2: float | None
    best: float | None = None
    constant: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Data:
    """What an extractor is fitted to, and what it is measured on.

    Attributes:
        batches: batches for the steps of Adam.
        known: sequences and targets for least squares; the mean map and the scale are taken from these targets.
        held_out: sequences and targets that no fit uses.
    """

    batches: Iterator[Pair]
    known: Pair
    held_out: Pair


def fit_generated(job: Job) -> Fitted:
    """Fit an extractor to sequences of a law, with new sequences in each step, and measure it on held-out ones."""
    law = LAWS[job.law]

    def fresh() -> Iterator[Pair]:
        random = generator(job.seed, "fitted", job.k)
        while True:
            batch = law.draw(BATCH, job.k, random)
            yield batch.sequence, batch.target

    known, held_out = (
        law.draw(samples, job.k, generator(job.seed, purpose, job.k))
        for purpose, samples in (("known", TO_FIT), ("held-out", TO_TEST))
    )
    data = Data(fresh(), (known.sequence, known.target), (held_out.sequence, held_out.target))
    found = measured(job.fit, data, job.seed)
    best = explained(held_out.best, held_out.target, known.target.mean(0))
    return Fitted(found.r2, best, found.constant, found.failed)


def measured(fit: Fit, data: Data, seed: int) -> Fitted:
    """Fit an extractor, whose weights begin from the seed, and return how well it predicts the held-out targets.

    All maps are divided by the standard deviation of the known targets, so one learning rate serves all data. The
    increments of a training are of the order of 0.01.
    """
    (known, targets), (tested, wanted) = data.known, data.held_out
    mean = targets.mean(0)
    scale = (targets - mean).square().mean().sqrt()
    if scale < CONSTANT or (wanted - mean).square().mean() < CONSTANT**2:
        return Fitted(None, constant=True)
    site = ExtractorSite(len(known), known.shape[-2], known.shape[-1], 0, 1)
    with initialization(seed, f"extractor/{fit.extractor}"):
        extractor = EXTRACTORS.build(fit.extractor, site, **dict(fit.options))
    arrange = _Arranged(fit.order, seed)
    if fit.extractor in LINEAR:
        _solve(extractor, (arrange(known / scale), targets / scale))
    else:
        batches = ((arrange(sequence / scale), target / scale) for sequence, target in data.batches)
        _descend(extractor, batches, fit.steps)
    with torch.no_grad():
        predicted = scale * torch.cat([extractor(arrange(part / scale)) for part in torch.split(tested, BATCH, 1)])
    if not torch.isfinite(predicted).all():
        return Fitted(None, failed=True)
    return Fitted(explained(predicted, wanted, mean))


def explained(predicted: Tensor, target: Tensor, mean: Tensor) -> float:
    """Return R^2: 1 minus the squared error over that of the mean map, computed in double precision.

    >>> target = torch.tensor([[1.0], [3.0]])
    >>> explained(torch.tensor([[1.0], [2.0]]), target, target.mean(0))
    0.5
    """
    target = target.double()
    error, whole = (target - predicted.double()).square().sum(), (target - mean.double()).square().sum()
    return 1 - (error / whole).item()


class _Arranged:
    """Brings the maps of a sequence into the order of an arm, as a review does; shuffled: anew for each 32 samples."""

    def __init__(self, order: Order, seed: int) -> None:
        self._sequence = KnowledgeSequence(sequence="feature_map", include_current=False, sequence_order=order)
        self._random = generator(seed, "orders")

    def __call__(self, sequence: Tensor) -> Tensor:
        parts = []
        for part in torch.split(sequence.squeeze(2), BATCH, 1):
            maps = list(part)
            parts.append(self._sequence(maps, maps[-1], self._random))
        return torch.cat(parts, 1)


def _descend(extractor: Extractor, batches: Iterator[Pair], steps: int) -> None:
    """Take steps of Adam, whose rate rises for a tenth of the steps and then falls to about 0."""
    optimizer = torch.optim.Adam(extractor.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    for _, (sequence, target) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        F.mse_loss(extractor(sequence), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _solve(extractor: Extractor, known: Pair) -> None:
    """Find the weights of the least squared error."""
    sequence, target = known
    optimizer = torch.optim.LBFGS(
        extractor.parameters(), max_iter=LEAST_SQUARES_STEPS, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def error() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(extractor(sequence), target)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(error)  # type: ignore[no-untyped-call]
