"""The arithmetic of the suite ``tracking``; the suite itself needs Ray and minutes."""

from __future__ import annotations

import pytest

from benchmarks import tracking
from benchmarks.platform import Course, Epoch, Setting
from benchmarks.rows import Spent
from benchmarks.tracking import Measured


def measured(gap: float, further: float, cpu: float, around: float) -> Measured:
    """Return two trials of two epochs of half a second."""
    epochs, at, spent = [], 0.0, 0.0
    for trial in ("0", "1"):
        for _ in range(2):
            epochs.append(Epoch(trial, Spent(at, spent), Spent(at + 0.5, spent + cpu), 1.0))
            at, spent = at + 0.5 + gap, spent + cpu
        at += further - gap
    return Measured(Course(Setting(2, 2, 0.5), epochs, 0.0, at), around)


def test_what_wandb_adds_is_held_against_the_same_sweep_without_it() -> None:
    report = tracking._report({"": [measured(0.001, 0.1, 0.01, 5.0)], "W&B away": [measured(0.002, 0.2, 0.013, 7.0)]})
    (row,) = report.rows
    without = 24 * 60 + 24 * 119 * 0.001 + 23 * 0.1
    with_it = 24 * 60 + 24 * 119 * 0.002 + 23 * 0.2 + 2.0
    assert (row.reference.wall, row.ours.wall) == (pytest.approx(without), pytest.approx(with_it))
    assert row.goals[0].value == pytest.approx(with_it / without) and row.goals[0].is_met
    assert row.more["trial_cpu_ms"] == pytest.approx(6.0)
    assert row.more["once_s"] == pytest.approx(2.0) and row.plain()["ratio_cpu"] == 1.0
