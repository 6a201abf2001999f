"""Power against the planning tables of the project, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from tskd_tune.errors import InputError
from tskd_tune.reports.judge import power


def sd_of_differences(sd: float, rho: float = 0.0) -> float:
    """Return the sd of the difference of two arms, each of seed sd ``sd``, correlated by ``rho`` over seeds."""
    return sd * math.sqrt(2 * (1 - rho))


SDS = (0.20, 0.25, 0.30)


def share_interval(found, of):
    ends = stats.binomtest(int(found), of).proportion_ci(0.95, method="exact")
    return ends.low, ends.high


class TestPlanning:
    """The figures with which the experiments were planned, worked out elsewhere."""

    @pytest.mark.parametrize(("rho", "seeds"), [(0.0, 18), (0.3, 14), (0.6, 9)])
    def test_paired_seeds_for_a_quarter_of_a_point(self, rho, seeds):
        assert power.seeds_needed(0.25, sd_of_differences(0.25, rho)) == seeds

    @pytest.mark.parametrize(
        ("n", "visible"),
        [
            (3, (0.61, 0.77, 0.92)),
            (5, (0.40, 0.51, 0.61)),
            (10, (0.26, 0.33, 0.40)),
            (20, (0.18, 0.23, 0.27)),
            (30, (0.15, 0.18, 0.22)),
        ],
    )
    def test_what_unpaired_seeds_can_see(self, n, visible):
        found = [power.smallest_difference(sd_of_differences(sd), n, paired=False) for sd in SDS]
        assert found == pytest.approx(visible, abs=0.0061)

    @pytest.mark.parametrize(("n", "visible"), [(5, 0.38), (10, 0.22)])
    def test_what_paired_seeds_can_see(self, n, visible):
        found = power.smallest_difference(sd_of_differences(0.25, 0.6), n)
        assert found == pytest.approx(visible, abs=0.005)

    @pytest.mark.parametrize(
        ("difference", "at_three", "seeds"),
        [
            (2.70, (1.0, 1.0, 1.0), (2, 2, 2)),
            (1.10, (1.0, 0.97, 0.91), (3, 3, 3)),
            (0.95, (0.99, 0.93, 0.82), (3, 3, 3)),
            (0.69, (0.88, 0.72, 0.57), (3, 4, 5)),
            (0.60, (0.78, 0.60, 0.46), (4, 4, 6)),
            (0.57, (0.74, 0.56, 0.43), (4, 5, 6)),
            (0.48, (0.60, 0.43, 0.33), (4, 6, 8)),
            (0.22, (0.18, 0.13, 0.11), (15, 22, 31)),
            (0.13, (0.10, 0.08, 0.07), (39, 60, 85)),
        ],
    )
    def test_what_the_papers_differences_would_have_needed(self, difference, at_three, seeds):
        sds = [sd_of_differences(sd) for sd in SDS]
        # The table's powers count the wrong sign too, which matters where there is next to no power.
        wrong = 0.02 if difference < 0.3 else 0.006
        assert [power.power(difference, sd, 3, paired=False) for sd in sds] == pytest.approx(at_three, abs=wrong)
        assert tuple(power.seeds_needed(difference, sd, paired=False) for sd in sds) == seeds

    def test_the_correlation_of_arms_narrows_their_difference(self):
        assert power.seeds_needed(0.22, sd_of_differences(0.25, 0.0)) > 17
        assert [power.seeds_needed(0.22, sd_of_differences(0.25, rho)) for rho in (0.3,)] == [17]


class TestStatsmodels:
    @pytest.mark.parametrize("n", [3, 5, 10, 18, 40])
    @pytest.mark.parametrize("effect", [0.8, 1.5])
    @pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
    def test_power(self, n, effect, alpha):
        # One side at half the level: a difference that is found with the wrong sign does not count.
        paired = TTestPower().power(effect, n, alpha / 2, alternative="larger")
        assert power.power(0.5 * effect, 0.5, n, alpha=alpha) == pytest.approx(paired, rel=1e-6)
        # Two independent arms of the same sd: d is the difference over that sd, and the difference's sd is its root 2.
        unpaired = TTestIndPower().power(effect, n, alpha / 2, alternative="larger")
        sd = sd_of_differences(0.5)
        assert power.power(0.5 * effect, sd, n, alpha=alpha, paired=False) == pytest.approx(unpaired, rel=1e-6)

    @pytest.mark.parametrize(("effect", "n", "alpha"), [(40.0, 2, 0.05 / 6), (200.0, 2, 0.05 / 20), (60.0, 3, 1e-4)])
    def test_large_effects_by_the_noncentral_t_where_scipy_has_it(self, effect, n, alpha):
        exact = stats.nct.sf(stats.t.isf(alpha / 2, n - 1), n - 1, effect)
        assert 0.05 < exact < 0.95
        assert power.power(effect / math.sqrt(n), 1.0, n, alpha=alpha) == pytest.approx(exact, rel=1e-7)

    @pytest.mark.parametrize("n", [5, 10, 18])
    def test_the_smallest_difference(self, n):
        effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)
        assert power.smallest_difference(0.4, n) == pytest.approx(0.4 * effect, rel=1e-4)
        assert power.power(power.smallest_difference(0.4, n), 0.4, n) == pytest.approx(0.8, rel=1e-9)

    @pytest.mark.parametrize("effect", [0.2, 0.5, 0.9, 1.4])
    def test_seeds_needed(self, effect):
        exact = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)
        assert power.seeds_needed(effect, 1.0) == math.ceil(exact)
        unpaired = TTestIndPower().solve_power(effect_size=effect, alpha=0.05, power=0.8)
        assert power.seeds_needed(effect, math.sqrt(2), paired=False) == math.ceil(unpaired)


class TestSimulation:
    @pytest.mark.parametrize(("n", "sd"), [(6, 0.25), (10, 0.3)])
    def test_the_power_of_a_paired_t_test(self, n, sd):
        differences = np.random.default_rng(n).normal(0.3, sd, (20_000, n))
        found = np.sum(stats.ttest_1samp(differences, 0.0, axis=1, alternative="greater").pvalue <= 0.025)
        low, high = share_interval(found, 20_000)
        assert low <= power.power(0.3, sd, n) <= high

    @pytest.mark.parametrize(("n", "sd"), [(5, 0.1), (8, 0.25), (20, 0.35)])
    def test_the_power_to_show_equivalence(self, n, sd):
        differences = np.random.default_rng(n).normal(0.0, sd, (20_000, n))
        below = stats.ttest_1samp(differences, 0.3, axis=1, alternative="less").pvalue
        above = stats.ttest_1samp(differences, -0.3, axis=1, alternative="greater").pvalue
        low, high = share_interval(np.sum(np.maximum(below, above) <= 0.05), 20_000)
        assert low <= power.equivalence_power(0.3, sd, n) <= high

    def test_the_power_to_show_equivalence_unpaired(self):
        a, b = np.random.default_rng(9).normal(0.0, 0.25, (2, 20_000, 12))
        se = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 12)
        shown = (0.3 - np.abs(a.mean(axis=1) - b.mean(axis=1))) / se >= stats.t.isf(0.05, 22)
        low, high = share_interval(shown.sum(), 20_000)
        assert low <= power.equivalence_power(0.3, sd_of_differences(0.25), 12, paired=False) <= high


@settings(max_examples=60, deadline=None)
@given(st.floats(0.01, 5), st.floats(0.01, 2), st.floats(0.001, 0.2), st.floats(0.5, 0.99), st.booleans())
def test_the_seeds_needed_are_the_fewest(difference, sd, alpha, target, paired):
    found = power.seeds_needed(difference, sd, alpha=alpha, target=target, paired=paired)
    enough = power.seeds_for_equivalence(difference, sd, alpha=alpha, target=target, paired=paired)
    shows = (
        (found, lambda n: power.power(difference, sd, n, alpha=alpha, paired=paired)),
        (enough, lambda n: power.equivalence_power(difference, sd, n, alpha=alpha, paired=paired)),
    )
    for n, chance in shows:
        assert chance(n or 10_000) >= target if n else chance(10_000) < target
        if n and n > 2:
            assert chance(n - 1) < target


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e9), st.floats(1e-9, 1e9), st.integers(2, 20_000), st.floats(1e-9, 0.5))
def test_a_power_is_never_nan(difference, sd, n, alpha):
    assert 0 <= power.power(difference, sd, n, alpha=alpha) <= 1
    assert 0 < power.smallest_difference(sd, n, alpha=alpha) < math.inf
    assert 0 <= power.equivalence_power(0.3, sd, n, alpha=alpha) <= 1


def test_no_difference_cannot_be_resolved():
    assert power.seeds_needed(0.0, 0.3) is None
    assert power.seeds_needed(0.001, 0.3) is None
    assert power.seeds_for_equivalence(0.001, 0.3) is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: power.power(0.3, math.nan, 5), "sd: must be a positive finite number, got nan"),
        (lambda: power.power(0.3, 0.3, 1), "n: a test needs at least 2 seeds per arm, got 1"),
        (lambda: power.power(0.3, 0.3, 5, alpha=0.0), "alpha: a level lies between 0 and 1, got 0.0"),
        (lambda: power.power(math.nan, 0.3, 5), "difference: must be a finite number, got nan"),
        (lambda: power.seeds_needed(0.3, 0.3, target=1.0), "target: a power to plan for lies from 0.5 to below 1"),
        (lambda: power.smallest_difference(0.3, 5, target=0.1), "target: a power to plan for"),
        (lambda: power.seeds_for_equivalence(-0.3, 0.3), "margin: must be a positive finite number, got -0.3"),
    ],
)
def test_what_is_out_of_range_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
