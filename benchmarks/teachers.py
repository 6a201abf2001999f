"""How often verdicts over several teachers are wrong, and what they find, in simulated tables of teachers and seeds.

All tables are computed at once, with the bounds of the product. `tests/benchmarks/test_teachers.py` shows that a table
is resolved here where, and only where, a report of the same differences says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from scipy import special

from benchmarks.calibration import share
from benchmarks.judge import Measure, Rate, table
from benchmarks.judge_paths import FIRST, LAST
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.always_valid import Split, critical
from tskd_tune.reports.judge.variance_components import WHILE_ADDED

FULL, QUICK = 20_000, 2_000
"""The numbers of simulated tables of each scenario."""
BLOCK = 2_000
TEACHERS = (2, 3, 5)
Rule = Literal["fixed", "split", "seeds alone"]
Sds = tuple[float, float, float]
NOISE: dict[str, Sds] = {
    "no variance between teachers": (0.0, 1.0, 1.0),
    "teacher, seed and error alike": (1.0, 1.0, 1.0),
    "teacher and error alike, no common seed": (1.0, 0.0, 1.0),
    "nearly all variance between teachers": (1.0, 0.1, 0.3),
}
"""The standard deviations of teacher, seed and error, in words and in numbers."""
TRUE, SPREAD = 1.0, (0.0, 0.3)
"""A true difference, with these standard deviations between teachers; those of seed and error are 0.5."""
WORDS: dict[Rule, str] = {
    "fixed": f"one test of {FIRST} seeds",
    "split": f"extended to {LAST} seeds",
    "seeds alone": f"one test of {FIRST} seeds, as if there were one teacher",
}


def command(*, quick: bool, output: Path | None) -> None:
    """Carry out the command: simulate, show the rates, write them; exit with 1 if a promise is broken."""
    found = list(rates(QUICK if quick else FULL))
    Console(width=140).print(table(found))
    if output is not None:
        output.write_text(json.dumps({"rows": [asdict(one) for one in found]}, indent=1) + "\n")
    if not all(one.holds for one in found):
        raise SystemExit(1)


def rates(tables: int) -> Iterator[Rate]:
    """Simulate every scenario: false verdicts first, then the power for a difference."""
    for name, sds in NOISE.items():
        for teachers in TEACHERS:
            for rule, words in WORDS.items():
                promised = None if rule == "seeds alone" else power.ALPHA
                how = f"{name}, {teachers} teachers, {words}"
                yield _rate(how, "false_resolved", _counted(tables, teachers, sds, rule, 0.0), tables, promised)
    for spread in SPREAD:
        for teachers in TEACHERS:
            for rule, words in WORDS.items():
                how = f"a difference of {TRUE:g}, teacher {spread:g}, seed and error 0.5, {teachers} teachers, {words}"
                found = _counted(tables, teachers, (spread, 0.5, 0.5), rule, TRUE)
                yield _rate(how, "power", found, tables, None)


def _rate(scenario: str, measure: Measure, found: int, of: int, promised: float | None) -> Rate:
    of_all = share(found, of)
    return Rate(scenario, measure, found / of, of_all.low, of_all.high, promised)


def _counted(tables: int, teachers: int, sds: Sds, rule: Rule, difference: float) -> int:
    """Count the tables that are resolved."""
    random, count, left = np.random.default_rng(0), 0, tables
    while left:
        block = min(left, BLOCK)
        found = difference + drawn(random, (block, teachers, LAST if rule == "split" else FIRST), sds)
        count, left = count + int(resolved(found, rule).sum()), left - block
    return count


def drawn(random: np.random.Generator, shape: tuple[int, int, int], sds: Sds) -> np.ndarray:
    """Draw differences without a true difference, ``[tables, teachers, seeds]``."""
    tables, teachers, seeds = shape
    of_teacher, of_seed = random.standard_normal((tables, teachers, 1)), random.standard_normal((tables, 1, seeds))
    return np.asarray(sds[0] * of_teacher + sds[1] * of_seed + sds[2] * random.standard_normal(shape))


def resolved(found: np.ndarray, rule: Rule, alpha: float = power.ALPHA) -> np.ndarray:
    """Tell for each table whether it is resolved, for ``split`` at any number of seeds from 5 on; ``[tables]``.

    Args:
        found: the differences, ``[tables, teachers, seeds]``.
        rule: how they are tested.
        alpha: the level.
    """
    teachers, last = found.shape[1:]
    hit, largest = np.zeros(len(found), dtype=bool), np.zeros(len(found))
    for n in range(FIRST, last + 1) if rule == "split" else (last,):
        of_seeds, of_teachers = found[:, :, :n].mean(axis=1), found[:, :, :n].mean(axis=2)
        bound = Split(FIRST).bound(n, alpha) if rule == "split" else critical(alpha, n)
        square = bound**2 * of_seeds.var(axis=1, ddof=1) / n
        if rule != "seeds alone":
            level = WHILE_ADDED * alpha if rule == "split" else alpha
            largest = np.maximum(largest, of_teachers.var(axis=1, ddof=1) / teachers)
            square = square + float(special.stdtrit(teachers - 1, level / 2)) ** 2 * largest
        hit |= of_seeds.mean(axis=1) ** 2 >= square
    return hit
