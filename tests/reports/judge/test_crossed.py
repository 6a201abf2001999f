"""The difference of two arms over seeds and images: against formulas written out, libraries and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.crossed import Crossed, Sampling, crossed


def a_table(seeds: int, images: int, number: int = 0, *, of_seed: float = 0.1, of_image: float = 0.3) -> np.ndarray:
    """Return differences ``[seeds, images]`` of two arms that are right where a hidden number is positive."""
    random = np.random.default_rng(number)
    image = random.normal(1.0, 2.0, images)

    def right(gain: np.ndarray | float) -> np.ndarray:
        seed = random.normal(0, of_seed, (seeds, 1))
        return (image + gain + seed + random.normal(0, 0.7, (seeds, images))) > 0

    return right(0.1 + random.normal(0, of_image, images)).astype(int) - right(0.0)


def known(one: Sampling | None) -> Sampling:
    assert one is not None
    return one


def test_the_formulas_written_out() -> None:
    d = [[1, 0, 0, -1, 1], [1, 1, 0, 0, 1], [0, 1, -1, 0, 1]]
    found = crossed(np.array(d), (4, 5, 9))
    count, images = 3, 5
    mean = sum(map(sum, d)) / 15
    of_seeds = [sum(row) / images for row in d]
    of_images = [sum(row[i] for row in d) / count for i in range(images)]
    by_seed = images * sum((one - mean) ** 2 for one in of_seeds) / (count - 1)
    by_image = count * sum((one - mean) ** 2 for one in of_images) / (images - 1)
    left = [(d[s][i] - of_seeds[s] - of_images[i] + mean) ** 2 for s in range(count) for i in range(images)]
    rest = sum(left) / ((count - 1) * (images - 1))
    assert by_seed < rest < by_image, "one of the two is smaller than the rest, and counts as the rest"
    assert (found.seeds, found.images) == ((4, 5, 9), 5) and found.difference == pytest.approx(100 * mean)
    assert known(found.over_seeds).se == pytest.approx(100 * math.sqrt(by_seed / 15))
    assert known(found.over_images).se == pytest.approx(100 * math.sqrt(by_image / 15))
    both = known(found.over_both)
    assert both.se == pytest.approx(100 * math.sqrt(by_image / 15))
    assert both.df == pytest.approx(by_image**2 / (rest**2 / 2 + by_image**2 / 4 + rest**2 / 8))
    half = stats.t.ppf(0.975, both.df) * both.se
    assert (both.interval.low, both.interval.high) == pytest.approx((100 * mean - half, 100 * mean + half))
    assert both.half == pytest.approx(half)
    assert found.seed_sd == 0.0 and found.rest_sd == pytest.approx(100 * math.sqrt(rest))
    assert found.image_sd == pytest.approx(100 * math.sqrt((by_image - rest) / count))


@pytest.mark.parametrize("number", range(5))
def test_the_mean_squares_are_those_of_an_analysis_of_variance(number: int) -> None:
    table = a_table(4, 30, number, of_seed=0.8)
    seeds, images = np.indices(table.shape)
    frame = pd.DataFrame({"d": 100.0 * table.ravel(), "seed": seeds.ravel(), "image": images.ravel()})
    by_seed, by_image, rest = anova_lm(ols("d ~ C(seed) + C(image)", frame).fit())["sum_sq"] / [3, 29, 87]
    found, cells = crossed(table, range(4)), table.size
    assert known(found.over_seeds).se == pytest.approx(math.sqrt(by_seed / cells))
    assert known(found.over_images).se == pytest.approx(math.sqrt(by_image / cells))
    assert found.rest_sd == pytest.approx(math.sqrt(rest))
    total = max(by_seed, rest) + max(by_image, rest) - rest
    assert known(found.over_both).se == pytest.approx(math.sqrt(total / cells))


def test_over_seeds_it_is_the_paired_t_test_and_over_images_the_t_interval_of_their_means() -> None:
    table = a_table(6, 200)
    found = crossed(table, range(6))
    ours = {seed: 100 * float(row.mean()) for seed, row in enumerate(table)}
    paired = contrast(ours, dict.fromkeys(ours, 0.0))
    assert paired.interval is not None and paired.difference == pytest.approx(found.difference)
    over_seeds, over_images = known(found.over_seeds).interval, known(found.over_images).interval
    assert (over_seeds.low, over_seeds.high) == pytest.approx((paired.interval.low, paired.interval.high))
    expected = stats.ttest_1samp(100 * table.mean(axis=0), 0.0).confidence_interval(0.95)
    assert (over_images.low, over_images.high) == pytest.approx((expected.low, expected.high))


def test_with_one_pair_of_runs_the_images_give_what_mcnemar_s_counts_give() -> None:
    """The standard error of a difference of two shares on the same images, with n - 1 in the denominator."""
    table = np.array([[1] * 30 + [-1] * 18 + [0] * 952])
    found = crossed(table, (1,))
    variance = (30 + 18 - (30 - 18) ** 2 / 1000) / (1000 * 999)
    assert known(found.over_images).se == pytest.approx(100 * math.sqrt(variance))
    assert found.over_seeds is None and found.over_both is None and found.seed_sd is None


@pytest.mark.parametrize("number", range(20))
def test_over_both_it_is_never_surer_than_over_one_of_them(number: int) -> None:
    found = crossed(a_table(3 + number % 4, 60, number, of_seed=0.1 * (number % 5)), range(3 + number % 4))
    least = max(one.se for one in (found.over_seeds, found.over_images) if one is not None)
    both = known(found.over_both)
    assert both.se >= least * (1 - 1e-12)
    others = [one.interval for one in (found.over_seeds, found.over_images) if one is not None]
    assert both.interval.low <= min(one.low for one in others) + 1e-9
    assert both.interval.high >= max(one.high for one in others) - 1e-9


def test_more_degrees_of_freedom_than_seeds_make_no_interval_shorter_than_that_of_the_seeds() -> None:
    """Three seeds that differ much: Satterthwaite's interval would be shorter than the t interval of the seeds."""
    found = crossed(a_table(3, 100, 8, of_seed=0.2), range(3))
    both, over_seeds = known(found.over_both), known(found.over_seeds)
    assert both.df > over_seeds.df and stats.t.ppf(0.975, both.df) * both.se < over_seeds.half
    assert both.interval == over_seeds.interval and both.se > over_seeds.se


def test_where_nothing_varies_there_is_no_interval() -> None:
    same = crossed(np.zeros((3, 10)), range(3))
    assert (same.difference, same.over_seeds, same.over_images, same.over_both) == (0.0, None, None, None)
    every = crossed(np.ones((3, 10)), range(3))
    assert (every.difference, every.over_seeds, every.over_images, every.over_both) == (100.0, None, None, None)
    image = crossed(np.array([[1, 0, 0, 0]] * 3), range(3))
    assert image.over_seeds is None and known(image.over_both).se == pytest.approx(known(image.over_images).se)
    one = crossed(np.array([[1], [0], [1]]), range(3))
    assert one.over_images is None and one.over_both is None and one.over_seeds is not None


def truth(of_seed: float, of_image: float) -> float:
    """Return the difference over all seeds and images, in points, by numbers that were never used otherwise."""
    random = np.random.default_rng(99)
    image = random.normal(1.0, 2.0, 1_000_000)

    def mean_right(gain: float, more: float) -> float:
        # seed, image and noise are normal: the share of right answers to an image has a closed form
        spread = math.sqrt(of_seed**2 + 0.7**2 + more**2)
        return float(stats.norm.cdf((image + gain) / spread).mean())

    return 100 * (mean_right(0.1, of_image) - mean_right(0.0, 0.0))


def covers(found: list[Crossed], name: str, value: float) -> float:
    intervals = [known(getattr(one, name)).interval for one in found]
    return float(np.mean([interval.low <= value <= interval.high for interval in intervals]))


@pytest.mark.parametrize(
    ("of_seed", "of_image", "seeds", "surest"),
    [(0.1, 0.3, 5, "over_images"), (0.0, 1.0, 5, "over_seeds"), (0.1, 0.3, 10, "over_images")],
)
def test_95_of_100_intervals_over_both_hold_the_truth(of_seed: float, of_image: float, seeds: int, surest: str) -> None:
    """Of 600 simulated comparisons on new seeds and new images; that which leaves one of them out holds it less often.

    The lower limit is that of a coverage of 95 % and 600 tries, at one in ten thousand.
    """
    found = [
        crossed(a_table(seeds, 400, number, of_seed=of_seed, of_image=of_image), range(seeds)) for number in range(600)
    ]
    value = truth(of_seed, of_image)
    least = float(stats.binom.ppf(1e-4, 600, 0.95)) / 600
    both = covers(found, "over_both", value)
    assert least <= both <= 0.99
    assert covers(found, surest, value) < least, "a test that leaves out what varies would be noticed"
