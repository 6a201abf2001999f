"""The arithmetic of the suite ``platform``; the suite itself needs Ray and minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tskd_tune
from benchmarks import platform
from benchmarks.platform import Course, Epoch, Setting, Tax, course
from benchmarks.rows import Spent
from tskd_tune.experiment import Experiment
from tskd_tune.records.entries.events import Event


def epoch(trial: str, begun: float, ended: float) -> Epoch:
    return Epoch(trial, Spent(begun, begun / 2), Spent(ended, ended / 2), 1.0)


def test_what_lies_between_epochs_is_the_platforms() -> None:
    epochs = [epoch("0", 0, 1), epoch("0", 1.25, 2), epoch("0", 2.75, 3), epoch("1", 5, 6)]
    found = Course(Setting(2, 2, 1.0), epochs, driver_cpu=0.0, span=6.5)
    assert found.bare == 3.0
    assert found.reported() == Spent(0.5, 0.25)
    assert found.between(trials=True) == [Spent(2.0, 1.0)]


def test_the_extrapolation_shows_its_arithmetic() -> None:
    tax = Tax(epoch=0.001, trial=0.1, checkpoint=0.01)
    assert tax.seconds == pytest.approx(24 * 119 * 0.001 + 23 * 0.1 + 24 * 2 * 0.01)
    assert tax.ratio == pytest.approx(1 + tax.seconds / 1440)
    assert "24 x 60 s = 1440 s bare; 24 x 119 epochs x 1.000 ms + 23 x 0.100 s" in str(tax)
    assert str(tax).endswith(f"= {tax.ratio:.4f}")


def test_the_report_holds_each_figure_against_its_goal() -> None:
    epochs = [epoch("0", 0, 0.5), epoch("0", 0.5005, 1.0005), epoch("1", 1.1005, 1.6005)]
    found = Course(Setting(2, 2, 0.5), epochs, driver_cpu=0.002, span=1.7)
    report = platform._report([found], [found], [found], found)
    assert [row.goals[0].is_met for row in report.rows] == [True] * 5
    assert [round(row.more["tax_ms"], 3) for row in report.rows[:4]] == [0.5, 0.5, 0.5, 100.0]
    assert report.rows[4].ours.wall == pytest.approx(1440 + 24 * 119 * 0.0005 + 23 * 0.1)
    assert all(row.plain()["ratio"] for row in report.rows)
    assert "1.70 s for 1.50 s (1.1333)" in report.notes[1]


def test_a_sleeping_trial_trains_alone_as_the_suite_expects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def sweep(document: dict[str, Any], name: str, **options: Any) -> None:
        plain = {**document["experiment"], "seed": 1}
        options["listener"](Event("epoch", "arm", "0", 1, 0, 1, metrics={**trained(plain)}))
        options["listener"](Event("epoch", "arm", "0", 1, 1, 1, metrics={**trained(plain)}))

    def trained(plain: dict[str, Any]) -> dict[str, Any]:
        return dict(platform.build_trainer(Experiment.read(plain)).epoch().plain())

    monkeypatch.setattr(tskd_tune, "sweep", sweep)
    found = course(Setting(1, 1, 0.05), tmp_path, "one")
    assert found.epochs[0].ended.wall - found.epochs[0].begun.wall >= 0.05
    assert found.epochs[0].loss == found.epochs[1].loss
    platform._refuse_other_numbers(found)
    wrong = Course(found.setting, [epoch("0", 0, 1)], 0.0, 1.0)
    with pytest.raises(platform.ExactnessError, match="a training alone has the losses"):
        platform._refuse_other_numbers(wrong)
