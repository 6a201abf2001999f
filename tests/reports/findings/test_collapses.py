"""Runs that collapsed are flagged in the arm and the comparison, and aggregates stand beside the mean."""

from __future__ import annotations

import csv
import io
import itertools

import numpy as np
import pytest
from scipy import stats

from factories import a_row, write_rows
from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.collapses import collapsed, robust_sd
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.exports import as_csv
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.judge.robust import interquartile_mean, probability_of_improvement

BASE = [70.1, 70.4, 69.8, 70.0, 70.3, 70.2, 69.9]
FAR = [71.0, 71.5, 70.9, 12.3, 71.4, 71.3, 70.7]


@pytest.fixture
def judged(tmp_path):
    def make(name="test_top1", classes=10, **arms):
        document = {"search": {"name": "grid"}, "seeds": [*range(1, 8)]}
        folder = RunFolder.create(tmp_path, f"run{len([*tmp_path.iterdir()])}", "sweep", document)
        data = {"inputs": [1, 8, 8], "outputs": classes, "samples": [100, 10, 10]}
        rows = [
            a_row(f"{place}-{seed}", seed, arm, metrics={name: value}, data=data)
            for place, (arm, values) in enumerate(arms.items())
            for seed, value in enumerate(values, 1)
        ]
        write_rows(folder, rows)
        return summary(folder)

    return make


def test_a_collapsed_run_is_flagged_in_its_arm_and_its_comparison(judged):
    found = judged(ce=BASE, tskd=FAR)
    assert [arm.collapsed for arm in found.arms] == [(), (4,)]
    text = markdown(found)
    assert "1 collapsed" in text and "interquartile mean" in text
    (finding,) = found.family.family.findings
    assert "Collapsed: seed 4 of 'tskd' (12.30 %). The test counts these runs" in finding.sentence
    difference = np.mean([x - y for x, y in zip(FAR, BASE, strict=True) if x > 20])
    assert f"without them the difference is {difference:+.2f} points (6 seeds)" in finding.sentence
    assert "A run of 'tskd' is the better one with a probability of 0.86 (95 % bootstrap interval" in finding.sentence
    arms = list(csv.DictReader(io.StringIO(as_csv(found, "arms"))))
    assert [line["collapsed"] for line in arms] == ["", "4"]
    assert float(arms[1]["interquartile_mean"]) == pytest.approx(stats.trim_mean(FAR, 0.25))
    (verdict,) = csv.DictReader(io.StringIO(as_csv(found, "verdicts")))
    assert float(verdict["probability_of_improvement"]) == pytest.approx(6 / 7)
    assert as_json(found)["arms"][1]["collapsed"] == [4]


def test_nothing_is_said_of_runs_that_only_vary(judged):
    found = judged(ce=BASE, tskd=[value + 1 for value in reversed(BASE)])
    assert "ollapsed" not in markdown(found) and "interquartile" not in markdown(found)
    assert as_json(found)["family"]["findings"][0]["improvement"]["value"] == pytest.approx(1.0)
    # Seeds that agree to a hundredth do not make a tenth of a point an outlier.
    flat = [70.00, 70.01, 70.00, 70.01, 70.00, 70.01, 69.90]
    assert [arm.collapsed for arm in judged(ce=flat, kd=flat).arms] == [(), ()]


def test_chance_level_is_a_collapse_for_each_top_k(judged):
    assert [arm.collapsed for arm in judged(ce=BASE, kd=[10.2, *BASE[1:]]).arms] == [(), (1,)]
    assert [arm.collapsed for arm in judged(ce=[10.0] * 7, kd=BASE).arms] == [(1, 2, 3, 4, 5, 6, 7), ()]
    assert judged(name="test_top5", classes=100, ce=[5.1] * 5, kd=BASE[:5]).arms[0].collapsed == (1, 2, 3, 4, 5)
    assert judged(name="test_top5", classes=4, ce=[100.0] * 5, kd=BASE[:5]).arms[0].collapsed == ()


def test_a_loss_collapses_upwards():
    loss = Metric("loss", "loss", "", "min")
    values = {1: 0.5, 2: 0.52, 3: 0.48, 4: 2.3, 5: 0.51}
    assert collapsed(values, robust_sd([[*values.values()]]), loss, []) == (4,)
    assert collapsed({**values, 4: 0.01}, 0.02, loss, []) == ()


def test_few_arms_of_normal_noise_have_a_false_outlier():
    """2,000 tables of two arms with 8 seeds; 1.3 % of the arms in 20,000 tables."""
    rng, metric, flagged = np.random.default_rng(2), Metric("top1", "top-1", PERCENT, "max"), 0
    for _ in range(2000):
        arms = [[float(value) for value in rng.normal(70, 2, 8)] for _ in range(2)]
        sd = robust_sd(arms)
        flagged += sum(bool(collapsed(dict(enumerate(values)), sd, metric, [])) for values in arms)
    assert stats.binomtest(flagged, 4000).proportion_ci().low < 0.013 and flagged < 80


def test_the_aggregates_are_those_of_their_definitions():
    rng = np.random.default_rng(3)
    for n in (5, 6, 9, 10):
        ours, theirs = rng.normal(1, 1, n), np.round(rng.normal(0.5, 1, n + 1), 1)
        ours[0] = theirs[0]  # a tie counts half
        found = interquartile_mean([*ours])
        ordered = sorted(ours)[n // 4 : n - n // 4]
        assert found.value == pytest.approx(sum(ordered) / len(ordered))
        assert found.value == pytest.approx(stats.trim_mean(ours, 0.25))
        better = [(x > y) + 0.5 * (x == y) for x, y in itertools.product(ours, theirs)]
        improvement = probability_of_improvement([*ours], [*theirs], mode="max")
        assert improvement.value == pytest.approx(np.mean(better))
        assert improvement.value == pytest.approx(stats.mannwhitneyu(ours, theirs).statistic / (n * (n + 1)))
        assert probability_of_improvement([*ours], [*theirs], mode="min").value == pytest.approx(1 - np.mean(better))
        assert found.low <= found.value <= found.high and 0 <= improvement.low <= improvement.high <= 1
        assert interquartile_mean([*ours]) == found, "the generator is fixed"
    assert interquartile_mean([1.0, 2.0]).low is None and interquartile_mean([]) is None


def test_the_bootstrap_interval_of_the_interquartile_mean_holds_its_mean():
    """The percentile interval of 20 runs contains the true value in about 92 to 95 % of the tables."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(150):
        found = interquartile_mean([*rng.normal(0, 1, 20)])
        held += found.low <= 0 <= found.high
    assert 0.85 <= held / 150 <= 1.0
