"""Every figure against SciPy or statsmodels, and against values worked by hand or by enumeration."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

from tskd_tune.errors import InputError
from tskd_tune.reports.forms.plain import plain
from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.sign_flips import sign_flip
from tskd_tune.reports.judge.statistics import arm

QUICK = settings(max_examples=40, deadline=None)
# Accuracies as they are measured: 71.23, or in steps of one of 360 test images, so that ties are common.
accuracies = st.one_of(
    st.floats(0, 100).map(lambda value: round(value, 2)), st.integers(0, 360).map(lambda right: 100 * right / 360)
)
arms = st.dictionaries(st.integers(0, 12), accuracies, max_size=12)


def seeded(*values, first=1):
    return dict(enumerate(values, first))


def drawn(seed, n, shift=0.0):
    random = np.random.default_rng(seed)
    shared = random.normal(70, 0.3, n)
    return [seeded(*map(float, shared + random.normal(move, 0.2, n))) for move in (shift, 0.0)]


class TestArm:
    def test_by_hand(self):
        # The mean of 70 .. 74 is 72, the squares 4 + 1 + 0 + 1 + 4 = 10, the sd sqrt(10 / 4); t(4, 0.975) is 2.776445.
        found = arm(seeded(70, 71, 72, 73, 74), name="kd")
        half = 2.776445 * math.sqrt(10 / 4) / math.sqrt(5)
        assert (found.name, found.n, found.seeds, found.mean) == ("kd", 5, (1, 2, 3, 4, 5), 72.0)
        assert found.sd == pytest.approx(1.5811388)
        assert (found.interval.low, found.interval.high) == pytest.approx((72 - half, 72 + half), abs=1e-6)
        assert (found.interval.level, found.interval.method, found.note) == (0.95, "t", "")

    @pytest.mark.parametrize("seed", range(4))
    def test_the_interval_is_students(self, seed):
        values, _ = drawn(seed, 4 + seed)
        numbers = list(values.values())
        found = arm(values)
        expected = stats.t.interval(0.95, len(numbers) - 1, np.mean(numbers), stats.sem(numbers))
        assert (found.interval.low, found.interval.high) == pytest.approx(expected, rel=1e-10)

    def test_the_bootstrap_is_bca_by_its_formula(self):
        values, _ = drawn(5, 12)
        numbers = np.array(list(values.values()))
        means = stats.bootstrap((numbers,), np.mean, rng=np.random.default_rng(0)).bootstrap_distribution
        bias = stats.norm.ppf((np.sum(means < numbers.mean()) + np.sum(means <= numbers.mean())) / (2 * len(means)))
        left_out = np.array([np.delete(numbers, index).mean() for index in range(12)])
        moved = left_out.mean() - left_out
        skew = np.sum(moved**3) / (6 * np.sum(moved**2) ** 1.5)
        ends = [bias + (bias + z) / (1 - skew * (bias + z)) for z in stats.norm.ppf([0.025, 0.975])]
        found = arm(values).bootstrap
        assert (found.low, found.high) == pytest.approx(np.quantile(means, stats.norm.cdf(ends)), rel=1e-9)
        assert found.method == "bca"

    def test_the_bootstrap_is_the_same_twice_in_any_order_of_seeds_and_needs_ten(self):
        values, _ = drawn(6, 10)
        turned = dict(reversed(values.items()))
        assert arm(values).bootstrap == arm(turned).bootstrap is not None
        assert arm({seed: values[seed] for seed in range(1, 10)}).bootstrap is None

    def test_what_is_missing_is_said(self):
        none, one, same = arm({}), arm({3: 71.0}), arm(seeded(*[71.5] * 12))
        assert (none.n, none.mean, none.sd, none.interval, none.note) == (0, None, None, None, "no seed has finished")
        assert (one.n, one.mean, one.sd, one.interval) == (1, 71.0, None, None)
        assert one.note == "one seed: no standard deviation and no interval can be given"
        assert (same.sd, same.interval, same.bootstrap) == (0.0, None, None)
        assert same.note == "all 12 seeds gave the same value: no interval can be given"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
    def test_what_is_no_number_is_refused_with_its_arm_and_seed(self, value):
        with pytest.raises(InputError, match=r"arm 'kd': seed 2 has the value .*, which is no finite number"):
            arm(seeded(71.0, value), name="kd")


class TestPaired:
    def test_by_hand(self):
        # Differences 1, 2, 3, 4, 5: mean 3, sd sqrt(10 / 4), t = 3 / (1.5811 / sqrt(5)) = 4.2426 on 4 degrees.
        found = contrast(seeded(72, 72, 75, 74, 77), seeded(71, 70, 72, 70, 72), arm="tskd", baseline="kd")
        assert (found.arm, found.baseline, found.paired, found.n) == ("tskd", "kd", True, 5)
        assert (found.difference, found.sd, found.df) == (3.0, pytest.approx(math.sqrt(2.5)), 4.0)
        assert found.se == pytest.approx(math.sqrt(0.5))
        assert found.d_z == pytest.approx(3 / math.sqrt(2.5))
        # Variances: 72, 72, 75, 74, 77 -> 18 / 4; 71, 70, 72, 70, 72 -> 4 / 4. Their mean is 2.75.
        assert found.d == pytest.approx(3 / math.sqrt(2.75))
        # Deviations -2, -2, 1, 0, 3 and 0, -1, 1, -1, 1: their products add up to 6, of sqrt(18 * 4).
        assert found.rho == pytest.approx(6 / math.sqrt(72))
        assert found.t_p == pytest.approx(0.013236, abs=1e-6)
        assert (found.sign_flip_p, found.sign_flip_smallest) == (2 / 32, 2 / 32)
        assert (found.spread, found.sign_flip_method) == ("measured", "exact")
        assert (found.interval.low, found.interval.high) == pytest.approx((1.03676, 4.96324), abs=1e-5)

    @pytest.mark.parametrize("seed", range(8))
    def test_against_scipy_and_statsmodels(self, seed):
        mine, theirs = drawn(seed, 3 + seed, shift=0.1)
        a, b = np.array(list(mine.values())), np.array(list(theirs.values()))
        found = contrast(mine, theirs, margin=0.25)
        expected = stats.ttest_rel(a, b)
        assert found.t_p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.difference / found.se == pytest.approx(expected.statistic, rel=1e-9)
        ends = expected.confidence_interval(0.95)
        assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
        wide = found.interval_at(0.99), expected.confidence_interval(0.99)
        assert (wide[0].low, wide[0].high) == pytest.approx((wide[1].low, wide[1].high), rel=1e-9)
        assert found.tost_p == pytest.approx(ttost_paired(a, b, -0.25, 0.25)[0], rel=1e-9)
        one_sided = [
            stats.ttest_1samp(a - b, end, alternative=side).pvalue for end, side in ((-0.25, "greater"), (0.25, "less"))
        ]
        assert found.tost_p == pytest.approx(max(one_sided), rel=1e-9)
        assert found.rho == pytest.approx(stats.pearsonr(a, b).statistic, rel=1e-9)
        assert found.d_z == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
        assert found.d == pytest.approx((a - b).mean() / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))

    def test_the_margin_decides_the_tost(self):
        mine, theirs = drawn(1, 10)
        narrow, wide = (contrast(mine, theirs, margin=margin).tost_p for margin in (0.05, 1.0))
        assert wide < 0.001 < 0.1 < narrow

    def test_swapping_the_arms_turns_the_sign_and_nothing_else(self):
        mine, theirs = drawn(2, 9, shift=0.3)
        there, back = contrast(mine, theirs), contrast(theirs, mine)
        assert back.difference == -there.difference
        assert (back.interval.low, back.interval.high) == (-there.interval.high, -there.interval.low)
        for same in ("t_p", "sign_flip_p", "tost_p", "sd", "rho"):
            assert getattr(back, same) == pytest.approx(getattr(there, same), rel=1e-12)

    def test_seeds_that_one_arm_lacks_are_reported_and_do_not_count(self):
        found = contrast({5: 9.0, 2: 72.0, 1: 71.0, 3: 74.0}, {3: 72.0, 1: 70.0, 2: 71.5, 8: 1.0, 7: 1.0})
        assert (found.seeds, found.only_arm, found.only_baseline) == ((1, 2, 3), (5,), (7, 8))
        assert (found.n, found.difference) == (3, pytest.approx((1.0 + 0.5 + 2.0) / 3))

    def test_one_common_seed_gives_a_difference_and_no_test(self):
        found = contrast({1: 71.0, 2: 5.0}, {1: 70.5, 3: 5.0})
        assert (found.n, found.difference, found.paired) == (1, 0.5, True)
        assert (found.sd, found.interval, found.t_p, found.tost_p, found.spread) == (None,) * 5
        assert (found.sign_flip_p, found.sign_flip_smallest) == (1.0, 1.0)

    @pytest.mark.parametrize(("mine", "theirs"), [({}, {1: 70.0}), ({1: 70.0}, {}), ({}, {})])
    def test_an_empty_arm_has_no_difference(self, mine, theirs):
        found = contrast(mine, theirs)
        assert (found.n, found.difference, found.p, found.sign_flip_p) == (0, None, None, None)
        assert (found.only_arm, found.only_baseline) == (tuple(mine), tuple(theirs))

    def test_two_seeds_have_no_correlation(self):
        assert contrast(seeded(70, 72), seeded(70, 71)).rho is None

    @pytest.mark.parametrize("margin", [0.0, -0.3, math.nan, math.inf])
    def test_a_margin_that_is_none_is_refused(self, margin):
        with pytest.raises(InputError, match="margin: must be a positive number of points"):
            contrast({1: 1.0}, {1: 1.0}, margin=margin)

    def test_a_nan_is_refused_with_the_baselines_name(self):
        with pytest.raises(InputError, match="arm 'ce': seed 1 has the value nan"):
            contrast({1: 1.0}, {1: math.nan}, baseline="ce")


class TestNoSpread:
    def test_the_same_bits_in_both_arms(self):
        values, _ = drawn(0, 5)
        found = contrast(values, dict(values))
        assert (found.spread, found.difference, found.sd) == ("identical", 0.0, 0.0)
        assert (found.t_p, found.interval, found.d_z) == (None, None, None)
        # All 32 flips of zeros are as far from zero; all shifted differences lie on one side of either margin.
        assert (found.p, found.tost_p, found.d, found.rho) == (1.0, 1 / 32, 0.0, pytest.approx(1.0))

    def test_the_same_difference_in_every_seed(self):
        # 71.2 - 70.9 and 70.1 - 69.8 differ in their last bits: that is no spread.
        found = contrast(seeded(71.2, 70.1, 69.5, 70.7, 70.2, 71.0), seeded(70.9, 69.8, 69.2, 70.4, 69.9, 70.7))
        assert (found.spread, found.difference, found.sd) == ("constant", pytest.approx(0.3), 0.0)
        assert (found.t_p, found.interval, found.tost_p) == (None, None, 1.0)
        assert found.p == found.sign_flip_p == 2 / 64
        assert contrast(seeded(*[70.5] * 6), seeded(*[70.4] * 6)).tost_p == 1 / 64

    def test_a_difference_of_rounding_is_none(self):
        found = contrast(seeded(*[0.1 + 0.2] * 6), seeded(*[0.3] * 6))
        assert (found.spread, found.p, found.difference) == ("identical", 1.0, 0.0)

    def test_arms_that_do_not_spread_in_themselves_have_neither_d_nor_rho(self):
        found = contrast(seeded(*[70.5] * 6), seeded(*[70.0] * 6))
        assert (found.d, found.rho, found.spread) == (None, None, "constant")

    def test_one_image_more_is_a_spread(self):
        assert contrast(seeded(*[70.0] * 5, 70.0001), seeded(*[70.0] * 6)).spread == "measured"


class TestUnpaired:
    def test_disjoint_seeds_are_compared_by_welch(self):
        random = np.random.default_rng(3)
        a, b = random.normal(70.4, 0.5, 6), random.normal(70, 0.1, 9)
        found = contrast(seeded(*map(float, a)), seeded(*map(float, b), first=50), margin=0.8)
        expected = stats.ttest_ind(a, b, equal_var=False)
        assert (found.paired, found.n, found.seeds) == (False, 6, ())
        assert (found.t_p, found.df) == pytest.approx((expected.pvalue, expected.df), rel=1e-9)
        ends = expected.confidence_interval(0.95)
        assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
        assert found.interval.method == "welch"
        assert found.tost_p == pytest.approx(ttost_ind(a, b, -0.8, 0.8, usevar="unequal")[0], rel=1e-9)
        by_hand = stats.t.sf((0.8 - abs(found.difference)) / found.se, found.df)
        assert found.tost_p == pytest.approx(by_hand, rel=1e-9)
        assert (found.sign_flip_p, found.rho, found.d_z) == (None, None, None)
        assert (found.only_arm, found.only_baseline) == (tuple(range(1, 7)), tuple(range(50, 59)))

    def test_by_hand(self):
        # Variances 1 and 4 over 3 seeds each: se = sqrt(5 / 3), df = (5 / 3)^2 / ((1/9 + 16/9) / 2) = 50 / 17.
        found = contrast(seeded(70, 71, 72), seeded(66, 68, 70, first=10))
        assert (found.difference, found.se, found.df) == pytest.approx((3.0, math.sqrt(5 / 3), 50 / 17))
        assert found.sd == pytest.approx(math.sqrt(5))
        assert found.d == pytest.approx(3 / math.sqrt(2.5))

    def test_one_seed_in_an_arm_gives_no_test(self):
        found = contrast({1: 71.0}, {2: 70.0, 3: 70.5})
        assert (found.paired, found.n, found.difference) == (False, 1, 0.75)
        assert (found.se, found.interval, found.p, found.tost_p) == (None,) * 4

    @pytest.mark.parametrize(("value", "spread"), [(70.0, "identical"), (71.0, "constant")])
    def test_arms_without_spread_have_no_test(self, value, spread):
        found = contrast(seeded(*[value] * 5), seeded(*[70.0] * 5, first=9))
        assert (found.spread, found.p, found.tost_p, found.interval) == (spread, None, None, None)


def by_enumeration(differences):
    """Count the flips as far from zero, ties included, in exact integers."""
    total = abs(sum(differences))
    flips = list(itertools.product((-1, 1), repeat=len(differences)))
    return sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= total for signs in flips) / len(
        flips
    )


def by_counting(differences):
    """Build the exact distribution of the flipped sum of integers, one difference after another."""
    ways = Counter({0: 1})
    for difference in differences:
        longer: Counter[int] = Counter()
        for total, count in ways.items():
            longer[total + difference] += count
            longer[total - difference] += count
        ways = longer
    total = abs(sum(differences))
    return sum(count for at, count in ways.items() if abs(at) >= total) / 2 ** len(differences)


class TestSignFlip:
    @pytest.mark.parametrize(("n", "smallest"), [(1, 1.0), (3, 0.25), (5, 0.0625), (6, 0.03125), (10, 0.001953125)])
    def test_the_smallest_p_is_reached_where_all_signs_agree(self, n, smallest):
        found = sign_flip([0.1 * (index + 1) for index in range(n)])
        assert (found.p, found.smallest, found.method) == (smallest, smallest, "exact")

    def test_by_hand(self):
        # Of the 8 flips of 3, -1, 2 the sums are 4, 0, 6, 2 and their negatives: 4 of 8 are at least 4 from zero.
        assert sign_flip([3.0, -1.0, 2.0]).p == 4 / 8

    @QUICK
    @given(st.lists(st.integers(-9, 9), min_size=1, max_size=9))
    def test_against_enumeration_with_ties_and_rounding(self, differences):
        # In steps of 0.1 points the sums do not tie in binary; they must tie all the same.
        assert sign_flip([0.1 * difference for difference in differences]).p == by_enumeration(differences)

    def test_against_scipys_permutation_test(self):
        differences = np.random.default_rng(4).normal(0.2, 0.4, 12)
        exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip(differences).p == pytest.approx(exact.pvalue, rel=1e-12)

    @pytest.mark.parametrize("n", [20, 31, 40])
    def test_many_seeds_are_exact_too(self, n):
        differences = [int(value) for value in np.random.default_rng(n).integers(-20, 31, n)]
        found = sign_flip(differences)
        assert (found.p, found.method) == (pytest.approx(by_counting(differences), rel=1e-12), "exact")
        assert found.smallest == 2.0 ** (1 - n)

    def test_beyond_forty_seeds_it_is_monte_carlo_and_says_so(self):
        differences = [int(value) for value in np.random.default_rng(1).integers(-20, 28, 50)]
        found, exact = sign_flip(differences), by_counting(differences)
        assert 0.01 < exact < 0.9
        assert abs(found.p - exact) < 5 * math.sqrt(exact * (1 - exact) / 99_999)
        assert found == sign_flip(differences)
        assert (found.method, found.smallest) == ("Monte Carlo, 99,999 flips", 1 / 100_000)
        assert sign_flip([1.0] * 60).p == found.smallest


@QUICK
@given(arms, arms)
def test_nothing_is_ever_nan_and_everything_is_json(mine, theirs):
    for found in (arm(mine), contrast(mine, theirs)):
        assert json.loads(json.dumps(plain(found), allow_nan=False))["n"] == found.n


@QUICK
@given(arms, arms, st.floats(-50, 50).map(lambda value: round(value, 1)))
def test_moving_both_arms_changes_no_test(mine, theirs, move):
    here = contrast(mine, theirs)
    there = contrast(*({seed: value + move for seed, value in one.items()} for one in (mine, theirs)))
    assert there.spread == here.spread
    assert there.sign_flip_p == here.sign_flip_p
    assert (there.t_p is None) == (here.t_p is None)
    if here.t_p is not None:
        assert there.t_p == pytest.approx(here.t_p, rel=1e-6, abs=1e-12)
