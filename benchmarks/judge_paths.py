"""Paths of simulated tables, all at once: how often a bound is reached at any number of seeds.

The bounds are those of the product. `tests/benchmarks/test_judge.py` shows that a path is resolved here where, and only
where, the reports of the same rows say so at one of their numbers of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.always_valid import Looks, Split, critical
from tskd_tune.reports.judge.obrien_fleming import obrien_fleming

FIRST, LAST = 5, 30
SEEDS = range(FIRST, LAST + 1)
ANALYSES = (5, 10, 18, 30)
BLOCK = 2_000

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal noise with standard deviation 1."""
    return random.standard_normal(shape)


def collapsing(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal noise of which every tenth value is 8 standard deviations lower."""
    return random.standard_normal(shape) - 8.0 * (random.random(shape) < 0.1)


def one_sided(random: np.random.Generator, tables: int, contrasts: int) -> np.ndarray:
    """Return differences of equal means where only the arms collapse, so that their other runs are better."""
    shape = tables, contrasts, LAST
    base = normal(random, (tables, 1, LAST))
    found: np.ndarray = collapsing(random, shape) + 0.8 - base
    return found


def differences(random: np.random.Generator, tables: int, contrasts: int, noise: Noise) -> np.ndarray:
    """Return the differences of arms from one baseline, without a true difference; ``[tables, contrasts, LAST]``."""
    values = noise(random, (tables, contrasts + 1, LAST))
    found: np.ndarray = values[:, 1:] - values[:, :1]
    return found


def t_paths(found: np.ndarray, center: float = 0.0) -> np.ndarray:
    """Return the t statistics after 5 to ``LAST`` differences; ``[..., LAST - 4]``."""
    n = np.arange(1, found.shape[-1] + 1)
    mean = found.cumsum(-1) / n
    squares = (found**2).cumsum(-1) - n * mean**2
    error = np.sqrt(np.maximum(squares, 1e-300) / np.maximum(n - 1, 1) / n)
    paths: np.ndarray = ((mean - center) / error)[..., FIRST - 1 :]
    return paths


def split_bounds(contrasts: int) -> np.ndarray:
    """Return the bounds of `Split`, with the first verdict at 5 seeds, at Holm's first step."""
    return np.array([Split(FIRST).bound(n, power.ALPHA / contrasts) for n in SEEDS])


def look_bounds(contrasts: int) -> np.ndarray:
    """Return the bounds of `Looks` at four analyses; infinite between them."""
    looks = Looks(ANALYSES)
    return np.array([looks.bound(n, power.ALPHA / contrasts) if n in ANALYSES else np.inf for n in SEEDS])


def obrien_fleming_bounds(contrasts: int) -> np.ndarray:
    """Return O'Brien and Fleming's bounds at 5, 10 and 18 seeds, as levels of the t test; infinite between them."""
    levels = obrien_fleming((5, 10, 18), alpha=power.ALPHA / contrasts)
    nominal = dict(zip(levels.interim, levels.nominal, strict=True))
    return np.array([critical(nominal[n], n) if n in nominal else np.inf for n in SEEDS])


def fixed_bounds(contrasts: int) -> np.ndarray:
    """Return the critical values of one t test with each number of seeds."""
    return np.array([critical(power.ALPHA / contrasts, n) for n in SEEDS])


def resolved(found: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Tell for each table whether any contrast is resolved at any number of seeds; ``[tables]``."""
    reached: np.ndarray = np.any(np.abs(t_paths(found)) >= bounds, axis=(1, 2))
    return reached


def equivalent(found: np.ndarray, bounds: np.ndarray, margin: float) -> np.ndarray:
    """Tell for each table whether any contrast is shown to be within the margin; ``[tables]``."""
    below = np.any(t_paths(found, margin) <= -bounds, axis=2)
    above = np.any(t_paths(found, -margin) >= bounds, axis=2)
    inside: np.ndarray = np.any(below & above, axis=1)
    return inside


def counted(tables: int, seed: int, wrong: Callable[[np.random.Generator, int], np.ndarray]) -> int:
    """Count tables in blocks, so that they fit the memory."""
    random, found = np.random.default_rng(seed), 0
    for start in range(0, tables, BLOCK):
        found += int(wrong(random, min(BLOCK, tables - start)).sum())
    return found


def powers(
    tables: int, seed: int, effects: Sequence[float], counts: Sequence[int]
) -> Mapping[tuple[str, float, int], int]:
    """Count the tables with one contrast that each rule has resolved by a number of seeds.

    Args:
        tables: the number of simulated tables for each difference.
        seed: the seed of the simulation.
        effects: the true differences, in standard deviations of the paired differences.
        counts: the numbers of seeds.

    Returns:
        (rule, true difference, seeds) -> resolved tables. ``fixed`` is one test with these seeds.
    """
    random = np.random.default_rng(seed)
    rules = {"split": split_bounds(1), "looks": look_bounds(1), "obrien_fleming": obrien_fleming_bounds(1)}
    found: dict[tuple[str, float, int], int] = {}
    for effect in effects:
        paths = t_paths(random.standard_normal((tables, LAST)) + effect)
        for n in counts:
            at = n - FIRST
            for rule, bounds in rules.items():
                found[rule, effect, n] = int((paths >= bounds)[:, : at + 1].any(1).sum())
            found["fixed", effect, n] = int((paths[:, at] >= fixed_bounds(1)[at]).sum())
    return found
