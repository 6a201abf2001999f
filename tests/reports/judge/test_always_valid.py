"""The mixture t against direct integration, the bounds against reference tables, and the errors against simulations."""

from __future__ import annotations

import doctest
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tskd_tune.errors import InputError
from tskd_tune.reports.judge import always_valid
from tskd_tune.reports.judge.always_valid import MIXTURE, Looks, Split, crossing, crossings, log_e, t_bound, two_sided

FIVES = (5, 10, 18, 30)


def t_paths(tables, seeds, delta=0.0):
    """The t statistics of simulated tables after 5 to ``seeds`` normal differences."""
    drawn = np.random.default_rng(20261127).standard_normal((tables, seeds)) + delta
    n = np.arange(1, seeds + 1)
    mean = drawn.cumsum(1) / n
    squares = (drawn**2).cumsum(1) - n * mean**2
    return (mean[:, 4:] / np.sqrt(squares[:, 4:] / (n[4:] - 1) / n[4:])), n[4:]


class TestMartingale:
    @pytest.mark.parametrize(("t", "n"), [(0.0, 5), (2.5, 5), (-4.0, 9), (6.0, 18), (3.0, 30)])
    def test_it_is_the_integral_of_the_noncentral_t(self, t, n):
        def weighted(delta):
            return stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) * stats.norm.pdf(delta, scale=math.sqrt(MIXTURE))

        top = integrate.quad(weighted, -9, 9, epsabs=1e-13, limit=200, points=[t / math.sqrt(n)])[0]
        assert math.exp(log_e(t, n)) == pytest.approx(top / stats.t.pdf(t, n - 1), rel=1e-6)

    @pytest.mark.parametrize("n", [2, 5, 30])
    def test_its_mean_is_one_without_an_effect_and_it_mixes_to_a_scaled_t(self, n):
        scale = math.sqrt(1 + n * MIXTURE)
        for low, high in ((-np.inf, np.inf), (-1.0, 4.0)):
            found = integrate.quad(lambda t: math.exp(log_e(t, n)) * stats.t.pdf(t, n - 1), low, high, limit=400)[0]
            assert found == pytest.approx(np.diff(stats.t.cdf(np.array([low, high]) / scale, n - 1))[0], rel=1e-6)

    def test_one_pair_shows_nothing_and_pairs_that_agree_show_a_finite_amount(self):
        assert log_e(1e9, 1) == 0.0
        assert log_e(math.inf, 5) == pytest.approx(log_e(1e12, 5)) == pytest.approx(2 * math.log(41))

    @pytest.mark.parametrize("n", FIVES)
    def test_the_bound_has_the_value(self, n):
        assert log_e(t_bound(math.log(12.2), n), n) == pytest.approx(math.log(12.2))
        assert t_bound(n * math.log(1 + n * MIXTURE), n) == math.inf == t_bound(0.0, 1)


class TestBounds:
    @pytest.mark.parametrize("first", [5, 6, 8, 10, 20])
    def test_a_p_value_far_in_the_tail_is_a_number(self, first):
        """Near 1e-12 rounding took the root from between its bounds, and beyond 1e-300 there was no alpha to invert."""
        for n in (first, first + 15, first + 200):
            ts = np.geomspace(3, 1e5, 200)
            found = [Split(first).p([(n, float(t))]) for t in ts]
            assert all(0 <= p <= 1 for p in found)
            assert all(later <= before * (1 + 1e-9) for before, later in pairwise(found))

    def test_reference_numbers(self):
        assert [round(Split(5).bound(n, 0.05), 2) for n in FIVES] == [3.30, 4.07, 3.76, 3.65]
        assert [round(t_bound(math.log(20), n), 2) for n in FIVES] == [5.36, 4.13, 3.80, 3.69]
        assert [round(Looks(FIVES).bound(n, 0.05), 2) for n in FIVES] == [3.27, 3.02, 2.97, 2.98]
        assert doctest.testmod(always_valid).failed == 0

    def test_before_the_first_verdict_nothing_is_tested(self):
        assert Split(10).bound(9, 0.05) == math.inf
        assert Split(10).p([(9, 99.0)]) == Split(10).flat_p(9) == Looks((5, 10)).p([]) == Split(5).p([]) == 1.0
        assert Split(10).level(10, 0.05) == pytest.approx(0.03)

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 9), st.floats(0, 9), st.integers(6, 60), st.floats(1e-6, 1), st.sampled_from([Split(5), None]))
    def test_the_running_p_is_the_alpha_whose_bound_is_reached(self, first, later, n, alpha, split):
        design = split or Looks((5, n))
        path = [(5, first), (n, later)]
        p = design.p(path)
        reached = any(t >= design.bound(m, min(alpha, 0.5)) * (1 + 1e-6) for m, t in path)
        missed = all(t <= design.bound(m, min(alpha, 0.5)) * (1 - 1e-6) for m, t in path)
        assert not reached or p <= min(alpha, 0.5) * 1.01
        assert not missed or p >= min(alpha, 0.5) * 0.99

    def test_equal_differences_are_tested_by_their_signs(self):
        assert Split(5).flat_p(5) == pytest.approx(0.0625 / 0.6)
        assert Split(5).flat_p(10) == pytest.approx(11 / 1024 / 0.4)
        assert Split(5).flat_p(5, sides=1) == pytest.approx(0.03125 / 0.6)
        assert Looks((5, 8)).flat_p(8) == 2 / 128
        # Two-sided sign flips without an effect: the e-value of n equal signs has mean 1 over the binomial mixture.
        n = 12
        likelihood = [2**n * math.comb(n, k) ** -1 / (n + 1) for k in range(n + 1)]
        assert sum(math.comb(n, k) * 0.5**n * e for k, e in enumerate(likelihood)) == pytest.approx(1.0)

    def test_one_look_is_the_t_test_and_wrong_looks_are_refused(self):
        assert Looks((8,)).bound(8, 0.05) == pytest.approx(stats.t.isf(0.025, 7), rel=1e-6)
        assert Looks((8,)).p([(8, -3.0)]) == pytest.approx(two_sided(3.0, 8), rel=1e-9)
        with pytest.raises(InputError, match=r"looks: must be ascending .* got \[8, 5\]"):
            Looks((8, 5))


class TestErrors:
    def test_the_quadrature(self):
        # A bound that is infinite at the first look leaves the t test of the second.
        assert crossing((5, 30), (math.inf, 2.045)) == pytest.approx(two_sided(2.045, 30), rel=3e-3)
        assert crossing((5, 10), (0.0, 9.0)) == 1.0
        every = range(5, 31)
        split = [Split(5).bound(n, 0.05) for n in every]
        assert crossing(every, split) == pytest.approx(0.0381, abs=2e-4)
        assert crossing(every, [stats.t.isf(0.025, n - 1) for n in every]) == pytest.approx(0.229, abs=1e-3)
        assert Looks(FIVES).spent(0.05)[-1] == pytest.approx(0.05, abs=1e-9)
        assert list(crossings(every, split)) == sorted(crossings(every, split))

    def test_simulated_paths_cross_as_often_as_computed(self):
        t, every = t_paths(20_000, 30)
        looks = [Looks(FIVES).bound(n, 0.05) if n in FIVES else math.inf for n in every]
        for bounds in ([Split(5).bound(n, 0.05) for n in every], looks):
            found = stats.binomtest(int((abs(t) >= bounds).any(1).sum()), len(t)).proportion_ci(0.999)
            assert found.low <= crossing(list(every), bounds) <= min(found.high, 0.0501)
