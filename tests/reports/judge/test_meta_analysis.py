"""One method over several pairs, against its formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.meta_analysis import pooled

CE = [70.1, 70.4, 69.8, 70.0, 70.3]
GAINS = {"one": [0.5, 0.9, 0.4, 0.7, 0.6], "two": [0.1, -0.2, 0.3, 0.2, -0.1], "three": [1.0, 1.4, 0.8, 1.1, 1.3]}


def between(gains, base=CE, seeds=None, arm="kd", baseline="ce"):
    seeds = seeds or range(1, len(gains) + 1)
    low = dict(zip(seeds, base, strict=False))
    return contrast(
        {seed: low[seed] + gain for seed, gain in zip(seeds, gains, strict=True)}, low, arm=arm, baseline=baseline
    )


def paule_mandel(effects, variances):
    """The between-pair variance at which the weighted squares sum to the degrees of freedom, by bisection."""

    def excess(tau2):
        weights = 1 / (variances + tau2)
        mean = (weights * effects).sum() / weights.sum()
        return (weights * (effects - mean) ** 2).sum() - (len(effects) - 1)

    low, high = 0.0, 100.0
    if excess(low) <= 0:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


def written_out(found):
    effects = np.array([item.difference for item in found])
    variances = np.array([item.se**2 for item in found])
    tau2 = paule_mandel(effects, variances)
    weights = 1 / (variances + tau2)
    mean = (weights * effects).sum() / weights.sum()
    half = stats.t.ppf(0.975, len(found) - 1) / math.sqrt(weights.sum())
    z = sum(stats.norm.isf(stats.t.sf(item.difference / item.se, item.df)) for item in found) / math.sqrt(len(found))
    return mean, mean - half, mean + half, math.sqrt(tau2), z, 2 * stats.norm.sf(abs(z))


class TestTheFormulas:
    def test_pairs_that_differ_beyond_their_seeds(self):
        found = [between(gains) for gains in GAINS.values()]
        [one] = pooled({"'kd' against 'ce'": found})
        got = one.difference, one.interval.low, one.interval.high, one.tau, one.z, one.p
        assert got == pytest.approx(written_out(found), rel=1e-4)
        assert one.tau > 0.3 and one.interval.level == 0.95

    @pytest.mark.parametrize("seed", range(8))
    def test_random_pairs(self, seed):
        random = np.random.default_rng(seed)
        found = [between(random.normal(0.2, 0.3, 6), random.normal(70, 0.3, 6)) for _ in range(random.integers(2, 7))]
        [one] = pooled({"kd": found})
        got = one.difference, one.interval.low, one.interval.high, one.tau, one.z, one.p
        assert got == pytest.approx(written_out(found), rel=1e-3, abs=1e-6)

    def test_pairs_that_agree_still_have_the_width_of_their_seeds(self):
        """Without its floor the interval of means that agree by chance would have no width at all."""
        found = [between([0.2, 0.4, 0.3, 0.1, 0.5]) for _ in range(3)]
        [one] = pooled({"kd": found})
        width = stats.t.ppf(0.975, 2) * found[0].se / math.sqrt(3)
        assert one.tau == 0 and one.interval.high - one.difference == pytest.approx(width, rel=1e-9)

    def test_it_is_blind_to_which_arm_is_called_the_baseline(self):
        [up] = pooled({"kd": [between(gains) for gains in GAINS.values()]})
        [down] = pooled({"kd": [between([-gain for gain in gains]) for gains in GAINS.values()]})
        assert down.difference == pytest.approx(-up.difference, rel=1e-9)
        assert down.p == pytest.approx(up.p, rel=1e-9) and down.z == pytest.approx(-up.z, rel=1e-9)

    def test_without_an_effect_p_is_small_as_often_as_it_says(self):
        random = np.random.default_rng(3)
        small = 0
        for _ in range(1000):
            found = [between(random.normal(0, 0.3, 5), random.normal(70, 0.3, 5)) for _ in range(3)]
            small += pooled({"kd": found})[0].p <= 0.05
        ends = stats.binomtest(small, 1000).proportion_ci(0.95, method="exact")
        assert ends.low <= 0.05 <= ends.high


class TestWhatIsLeftOut:
    def test_one_pair_is_no_summary(self):
        assert pooled({"kd": [between(GAINS["one"])]}) == []

    def test_below_five_seeds_nothing_is_tested(self):
        [one] = pooled({"kd": [between(GAINS["one"]), between([0.1, 0.3, 0.2])]})
        assert one.interval is not None and (one.z, one.p, one.holm_p) == (None, None, None)
        assert "fewer than 5 seeds, so nothing is tested" in one.sentence and "p =" not in one.sentence

    def test_a_pair_without_spread_leaves_the_mean_alone(self):
        [one] = pooled({"kd": [between(GAINS["one"]), between([0.0] * 5)]})
        assert one.difference == pytest.approx(0.31) and (one.interval, one.tau, one.p) == (None, None, None)
        assert "no interval" in one.sentence

    def test_methods_are_adjusted_for_one_another(self):
        found = pooled(
            {
                "a": [between(gains) for gains in (GAINS["one"], GAINS["three"])],
                "b": [between(GAINS["two"]) for _ in range(2)],
                "c": [between(GAINS["one"])],
            }
        )
        assert [one.method for one in found] == ["a", "b"]
        assert found[0].holm_p == pytest.approx(2 * found[0].p) and found[1].holm_p == pytest.approx(found[1].p)
        assert found[0].sentence.startswith("a, over 2 pairs: +0.8") and "Holm-adjusted p" in found[0].sentence
