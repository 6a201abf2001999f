"""The simulated tables of several teachers are judged as reports judge them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import teachers
from benchmarks.judge_paths import FIRST
from tskd_tune.reports.judge import sequential, verdicts

PAIR = ("tskd", "ce")


def is_resolved(table: np.ndarray, rule: teachers.Rule) -> bool:
    """Judge the differences of one table, ``[teachers, seeds]``, as a report does, at its last number of seeds."""
    seeds = list(range(table.shape[1]))
    cells = {t: dict(enumerate(map(float, row))) for t, row in enumerate(table)}
    values = {"tskd": dict(enumerate(map(float, table.mean(axis=0)))), "ce": dict.fromkeys(seeds, 0.0)}
    if rule == "fixed":
        found = verdicts.family(values, [PAIR], crossed={PAIR: cells})
    else:
        ended = dict.fromkeys(PAIR, seeds)
        found = sequential.split(values, [PAIR], seeds=seeds, first=FIRST, ended=ended, crossed={PAIR: cells})
    return found.findings[0].verdict == "resolved"


@pytest.mark.parametrize("rule", ["fixed", "split"])
def test_a_table_is_resolved_where_a_report_says_so(rule: teachers.Rule) -> None:
    random = np.random.default_rng(0)
    found = 0.9 + teachers.drawn(random, (30, 3, 7 if rule == "split" else FIRST), (0.3, 0.4, 0.3))
    fast = teachers.resolved(found, rule)
    slow = [any(is_resolved(table[:, :n], rule) for n in range(FIRST, table.shape[1] + 1)) for table in found]
    assert fast.tolist() == slow
    assert 0 < sum(slow) < len(slow)


def test_the_promise_holds_and_seeds_alone_would_break_it() -> None:
    found = list(teachers.rates(400))
    promised = [one for one in found if one.promised is not None]
    assert len(promised) == 24
    assert all(one.holds for one in promised)
    alone = [one.rate for one in found if "alike, 3 teachers" in one.scenario and "as if" in one.scenario]
    assert min(alone) > 0.08
