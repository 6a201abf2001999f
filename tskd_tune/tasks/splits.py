"""Stratified splits by a fixed seed, the same for every run and on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from tskd_tune.errors import InputError
from tskd_tune.tasks.words import counted

TEST_SEED = 0
"""What splits off a test part where a data set has none of its own: constant, so that results stay comparable."""

Fraction: TypeAlias = Annotated[float, Field(gt=0, le=1)]
"""A share of each class's training images."""

FRACTION_SEED = 0
"""What decides which share of the training images is used: constant, so that every seed learns from the same."""


def quotas(counts: Sequence[int], total: int, *, option: str, names: Sequence[str], spare: int) -> NDArray[np.int64]:
    """Share a number of images among the classes, in proportion to their counts, at least one for each.

    Args:
        counts: images of each class, ``[classes]``.
        total: how many images to take; none are taken for 0.
        option: the option that asked for them, for messages.
        names: the name of each class, for messages.
        spare: how many images of each class must be left.

    Returns:
        How many images to take of each class, ``[classes]``, by largest remainder; ties go to the first class.

    Raises:
        InputError: fewer images than classes were asked for, or a class has too few.
    """
    have = np.asarray(counts, dtype=np.int64)
    if total == 0:
        return np.zeros_like(have)
    if total < len(have):
        raise InputError(
            f"task.{option}: {total} images cannot hold one of each of {len(have)} classes; "
            f"give 0 or at least {len(have)}"
        )
    shares = _largest_remainder(have, total)
    while shares.min() == 0:
        shares[shares.argmin()] += 1
        shares[shares.argmax()] -= 1
    short = np.flatnonzero(have < shares + spare)
    if short.size:
        first = int(short[0])
        left = f", and {spare} for training" if spare else ""
        raise InputError(
            f"task.{option}: class '{names[first]}' has {counted(int(have[first]), 'image')}, but needs"
            f" {shares[first] + spare}: {shares[first]} of the {total} that task.{option} takes{left}; add images of"
            f" this class, or lower task.{option}"
        )
    return shares


def stratified(
    targets: NDArray[np.int64],
    total: int,
    *,
    seed: int,
    option: str,
    names: Sequence[str],
    spare: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take a stratified part out of samples.

    Args:
        targets: the class of each sample, ``[N]``.
        total: how many samples to take.
        seed: what decides which; NumPy guarantees that the stream of ``RandomState`` never changes.
        option: the option that asked for them, for messages.
        names: the name of each class, for messages.
        spare: how many samples of each class must be left.

    Returns:
        The indices of the samples taken ``[total]`` and of those left ``[N - total]``, both ascending.

    Raises:
        InputError: see ``quotas``.
    """
    counts = np.bincount(targets, minlength=len(names))
    shares = quotas(counts.tolist(), total, option=option, names=names, spare=spare)
    stream = np.random.RandomState(seed)
    taken = np.zeros(len(targets), dtype=bool)
    for label, share in enumerate(shares):
        members = np.flatnonzero(targets == label)
        taken[stream.permutation(members)[:share]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def fraction_counts(counts: ArrayLike, fraction: float | None, *, names: Sequence[str]) -> NDArray[np.int64]:
    """Return how many training images of each class a share of them is, to the nearest, ``[classes]``.

    Args:
        counts: training images of each class, ``[classes]``.
        fraction: the share, above 0 and up to 1; None is all.
        names: the name of each class, for messages.

    Raises:
        InputError: no image of a class would be left.
    """
    have = np.asarray(counts, dtype=np.int64)
    if fraction is None:
        return have
    used: NDArray[np.int64] = np.rint(have * fraction).astype(np.int64)
    bare = np.flatnonzero(used == 0)
    if bare.size:
        first = int(bare[0])
        raise InputError(
            f"task.fraction: {fraction} of the {have[first]} training images of class '{names[first]}' is not one; "
            f"give at least {1 / have[first]:.2g}"
        )
    return used


def fraction_of(targets: NDArray[np.int64], fraction: float | None, *, names: Sequence[str]) -> NDArray[np.int64]:
    """Choose a share of each class's training samples; a smaller share is a part of a larger one.

    Args:
        targets: the class of each sample, ``[N]``.
        fraction: the share, above 0 and up to 1; None is all.
        names: the name of each class, for messages.

    Returns:
        The indices of the samples that are used, ascending.

    Raises:
        InputError: see ``fraction_counts``.
    """
    used = fraction_counts(np.bincount(targets, minlength=len(names)), fraction, names=names)
    stream = np.random.RandomState(FRACTION_SEED)
    chosen = [stream.permutation(np.flatnonzero(targets == label))[:count] for label, count in enumerate(used)]
    return np.sort(np.concatenate(chosen))


def _largest_remainder(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    shares, remainders = np.divmod(counts * total, counts.sum())
    missing = total - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return shares
