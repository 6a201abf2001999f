"""The expected best of n trials against all subsets written out, known distributions, and intervals by simulation."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from scipy import stats

from tskd_tune.errors import InputError
from tskd_tune.reports.judge.best_of import (
    Trials,
    best_of,
    difference,
    expected_best,
    filled,
    running_best,
)

TABLE = [71.2, 70.1, 74.9, 70.1, 68.0, 73.3, 72.5]


def one(values, mode="max", independent=True):
    return Trials((tuple(values),), independent, mode, (1,))


def several(searches, mode="max", independent=False, numbers=None):
    numbers = range(1, len(searches) + 1) if numbers is None else numbers
    return Trials(tuple(map(tuple, searches)), independent, mode, tuple(numbers))


@pytest.mark.parametrize(("mode", "best"), [("max", max), ("min", min)])
def test_the_expected_best_is_the_mean_over_all_subsets(mode, best):
    counts = range(1, len(TABLE) + 1)
    written_out = [statistics.fmean(map(best, itertools.combinations(TABLE, n))) for n in counts]
    assert expected_best(TABLE, list(counts), mode) == pytest.approx(written_out, rel=1e-14)


def test_the_order_of_the_trials_does_not_matter_to_the_expected_best_but_to_the_running_best():
    counts = [1, 3, 7]
    assert expected_best(TABLE[::-1], counts, "max") == pytest.approx(expected_best(TABLE, counts, "max"), rel=1e-14)
    assert running_best(TABLE, counts, "max") == [71.2, 74.9, 74.9]
    assert running_best(TABLE[::-1], counts, "max") == [72.5, 73.3, 74.9]
    assert running_best(TABLE, counts, "min") == [71.2, 70.1, 68.0]


def test_many_trials_have_the_weights_of_the_binomials():
    most, n = 3000, 700
    values = list(range(most))
    exact = sum(value * (math.comb(value, n - 1) / math.comb(most, n)) for value in values)
    assert expected_best(values, [n], "max")[0] == pytest.approx(exact, rel=1e-12)


def test_it_is_unbiased_where_draws_with_replacement_are_too_low():
    """The best of n even numbers is n / (n + 1) on average, also when n is the number of trials."""
    rng, most = np.random.default_rng(1), 8
    counts = list(range(1, most + 1))
    tables = rng.random((4000, most))
    means = np.mean([expected_best(table, counts, "max") for table in tables], axis=0)
    truth = np.array([n / (n + 1) for n in counts])
    assert np.abs(means - truth).max() < 4 * 0.3 / math.sqrt(4000)
    ordered, place = np.sort(tables, axis=1), np.arange(1, most + 1)
    replaced = (ordered * ((place / most) ** most - ((place - 1) / most) ** most)).sum(axis=1).mean()
    assert replaced < truth[-1] - 0.03


def test_the_best_of_normal_and_exponential_trials():
    """The best of 5 normal values is 1.16296; the least of n exponential ones is 1 / n, the largest 1 + ... + 1 / n."""
    rng = np.random.default_rng(2)
    normal = rng.normal(size=100_000)
    assert expected_best(normal, [5], "max")[0] == pytest.approx(1.16296, abs=0.02)
    exponential = rng.exponential(size=100_000)
    assert expected_best(exponential, [4], "min")[0] == pytest.approx(1 / 4, abs=0.01)
    assert expected_best(exponential, [4], "max")[0] == pytest.approx(25 / 12, abs=0.03)


def test_the_interval_of_one_search_is_that_of_the_jackknife_written_out():
    counts = [1, 2, 3]
    values = [*TABLE, 69.0, 75.5, 71.9, 70.8, 72.2]
    for found, n in zip(best_of(one(values), counts), counts, strict=True):
        without = [expected_best(values[:i] + values[i + 1 :], [n], "max")[0] for i in range(12)]
        error = math.sqrt(11 / 12 * sum((each - statistics.fmean(without)) ** 2 for each in without))
        half = stats.t.ppf(0.975, 11) * error
        assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), rel=1e-9)
    mean = best_of(one(values), [1])[0]  # of one trial it is the interval of a mean
    assert (mean.low, mean.high) == pytest.approx(
        stats.t.interval(0.95, 11, statistics.fmean(values), stats.sem(values)), rel=1e-9
    )


def test_the_interval_of_one_search_holds_in_simulations_and_ends_at_a_quarter_of_the_trials():
    rng, truth = np.random.default_rng(3), {1: 0.0, 3: 0.84628, 6: 1.26721}
    held = dict.fromkeys(truth, 0)
    for _ in range(800):
        for found in best_of(one(rng.normal(size=24)), list(truth)):
            held[found.n] += found.low <= truth[found.n] <= found.high
    assert all(held[n] / 800 > least for n, least in ((1, 0.93), (3, 0.9), (6, 0.87)))
    beyond = best_of(one(rng.normal(size=24)), [6, 7])
    assert beyond[0].low is not None and beyond[1].low is None


def test_a_search_that_learns_has_no_interval_of_its_own():
    (found,) = best_of(one(TABLE * 2, independent=False), [2])
    assert (found.value, found.low, found.high) == (71.2, None, None)


def test_replicates_have_the_t_interval_over_their_curves():
    searches = [[1.0, 3.0, 2.0], [2.0, 2.0, 5.0], [0.0, 4.0, 1.0]]
    found = best_of(several(searches), [1, 2, 3])
    columns = [[1.0, 2.0, 0.0], [3.0, 2.0, 4.0], [3.0, 5.0, 4.0]]
    assert [one.value for one in found] == [1.0, 3.0, 4.0]
    for each, column in zip(found, columns, strict=True):
        ends = stats.t.interval(0.95, 2, statistics.fmean(column), stats.sem(column))
        assert (each.low, each.high) == pytest.approx(ends, rel=1e-9)
    same = best_of(several([[1.0, 2.0], [1.0, 3.0]]), [1])[0]
    assert (same.value, same.low, same.high) == (1.0, None, None), "replicates that agree have no standard deviation"


def test_replicates_of_a_random_search_use_all_subsets_of_each():
    searches = [[1.0, 3.0, 2.0], [2.0, 2.0, 5.0]]
    (found,) = best_of(several(searches, independent=True), [2])
    assert found.value == pytest.approx(statistics.fmean([(3 + 3 + 2) / 3, (2 + 5 + 5) / 3]))


def test_replicates_of_the_same_numbers_are_compared_in_pairs_and_others_by_welch():
    ours, theirs = [[1.0, 3.0], [2.0, 2.5], [0.5, 4.0]], [[0.5, 2.0], [1.0, 2.2], [0.1, 2.5]]
    (found,) = difference(several(ours), several(theirs), [2], paired=True)
    ends = stats.ttest_rel([3.0, 2.5, 4.0], [2.0, 2.2, 2.5]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9) and found.paired
    ends = stats.ttest_ind([3.0, 2.5, 4.0], [2.0, 2.2, 2.5], equal_var=False).confidence_interval(0.95)
    for other in (
        difference(several(ours), several(theirs), [2], paired=False),
        difference(several(ours), several(theirs, numbers=[2, 3, 4]), [2], paired=True),
    ):
        assert (other[0].low, other[0].high) == pytest.approx((ends.low, ends.high), rel=1e-9) and not other[0].paired
        assert other[0].value == pytest.approx(found.value)


def test_two_single_random_searches_are_compared_by_both_standard_errors():
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(1, 1, 24), rng.normal(0, 2, 16)
    (found,) = difference(one(ours), one(theirs), [1], paired=True)
    ends = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9) and not found.paired
    assert difference(one(ours), one(theirs), [5], paired=True)[0].low is None, "beyond a quarter of 16 trials"
    alone = difference(one(ours, independent=False), one(theirs), [1], paired=True)[0]
    assert alone.low is None and not alone.excludes_zero
    assert alone.value == pytest.approx(ours[0] - statistics.fmean(theirs))
    mixed = difference(several([list(ours), list(ours[::-1])]), one(theirs), [1], paired=True)[0]
    assert mixed.low is None, "one replicate of the other method is too few"


def test_a_trial_without_a_value_counts_with_the_worst():
    assert filled([71.0, None, 70.0], 70.0) == (71.0, 70.0, 70.0)


@pytest.mark.parametrize("n", [0, 8])
@pytest.mark.parametrize("make", [expected_best, running_best])
def test_a_number_of_trials_that_the_search_does_not_have_is_refused(make, n):
    with pytest.raises(InputError, match=rf"n must be from 1 to 7, the number of trials, got \[{n}\]"):
        make(TABLE, [n], "max")
