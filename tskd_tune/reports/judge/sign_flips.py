"""Fisher's exact test of paired differences, with all flips of the signs of the differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EXACT_UP_TO = 40
MONTE_CARLO_FLIPS = 99_999


class SignFlip(NamedTuple):
    """The two-sided p of all sign flips, the smallest p that this many seeds can reach, and the counting method."""

    p: float
    smallest: float
    method: str


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """Return the share of all 2^n sign flips that give a mean at least as far from zero as the measured mean.

    Up to 40 differences the count is exact: the differences are split in two halves, the sums of all flips of each half
    are computed, the second sums are sorted, and pairs of sums are counted by bisection. For more differences, 99,999
    random flips are drawn with a fixed generator, and the data count as one more flip.
    """
    sample = np.asarray(differences, dtype=float)
    # Flips whose means differ only by rounding are ties, and ties count as equally far.
    least = abs(float(sample.sum())) - 1e-9 * float(np.abs(sample).sum())
    smallest = 2.0 ** (1 - len(sample))
    if len(sample) > EXACT_UP_TO:
        drawn = _drawn_share(sample, least)
        return SignFlip(drawn, max(smallest, 1 / (MONTE_CARLO_FLIPS + 1)), f"Monte Carlo, {MONTE_CARLO_FLIPS:,} flips")
    if least <= 0:
        return SignFlip(1.0, smallest, "exact")
    half = len(sample) // 2
    first, second = _flipped_sums(sample[:half]), np.sort(_flipped_sums(sample[half:]))
    above = len(first) * len(second) - int(np.searchsorted(second, least - first, side="left").sum())
    return SignFlip(min(1.0, 2.0 * above / 2.0 ** len(sample)), smallest, "exact")


def _flipped_sums(sample: np.ndarray) -> np.ndarray:
    """Return the sums of all 2^n flips of n numbers."""
    sums = np.zeros(1)
    for number in sample:
        sums = np.concatenate([sums + number, sums - number])
    return sums


def _drawn_share(sample: np.ndarray, least: float) -> float:
    random = np.random.default_rng(0)
    extreme = 1
    for _ in range(9):
        flips = 2.0 * random.integers(0, 2, size=(MONTE_CARLO_FLIPS // 9, len(sample)), dtype=np.int8) - 1.0
        extreme += int((np.abs(flips @ sample) >= least).sum())
    return extreme / (MONTE_CARLO_FLIPS + 1)
