"""O'Brien and Fleming's boundaries against the literature and SciPy, and the analyses that use them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tskd_tune.errors import InputError
from tskd_tune.reports.forms.plain import plain
from tskd_tune.reports.judge.always_valid import Looks
from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.obrien_fleming import obrien_fleming, repeated_p
from tskd_tune.reports.judge.sequential import analysis as any_analysis
from tskd_tune.reports.judge.sequential import split
from tskd_tune.reports.judge.verdicts import family

ANALYSES = (5, 10, 18)
SEEDS = range(1, 19)


def crossing(analyses, barriers):
    """The chance that z at any analysis is beyond its barrier, by SciPy's multivariate normal."""
    correlation = [[math.sqrt(min(a, b) / max(a, b)) for b in analyses] for a in analyses]
    ends = np.asarray(barriers)
    stay = stats.multivariate_normal.cdf(ends, cov=correlation, lower_limit=-ends, abseps=1e-7, maxpts=1_000_000)
    return 1 - stay


def arms(shift, sd=0.2, seed=0, n=18):
    random = np.random.default_rng(seed)
    shared, noise = random.normal(70, 0.2, n), random.normal(0, sd, (2, n))
    return {
        "tskd": {s + 1: float(shared[s] + shift + noise[0, s]) for s in range(n)},
        "kd": {s + 1: float(shared[s] + noise[1, s]) for s in range(n)},
    }


def analysis(*given, **options):
    """An interim analysis of a run of an earlier version."""
    return any_analysis(*given, rule="obrien_fleming", **options)


def taken(values, at, **options):
    return analysis(values, [("tskd", "kd")], seeds=SEEDS, interim=ANALYSES, at=at, **options)


class TestBoundaries:
    @pytest.mark.parametrize(
        ("analyses", "published"),
        [
            # O'Brien and Fleming's design at 0.05, two-sided, as in Jennison and Turnbull 2000, table 2.3.
            ((10, 20), (2.797, 1.977)),
            ((6, 12, 18), (3.471, 2.454, 2.004)),
            ((5, 10, 15, 20), (4.049, 2.863, 2.337, 2.024)),
            ((5, 10, 15, 20, 25), (4.562, 3.226, 2.634, 2.281, 2.040)),
        ],
    )
    def test_equal_analyses_as_published(self, analyses, published):
        found = obrien_fleming(analyses)
        # The tables print the constant to three digits; early boundaries are multiples of it.
        assert found.z == pytest.approx(published, abs=0.0015)
        assert found.spent[-1] == pytest.approx(0.05, abs=1e-10)

    @pytest.mark.parametrize("analyses", [ANALYSES, (5, 30), (6, 7, 8, 40), (500, 1000, 1001)])
    @pytest.mark.parametrize("alpha", [0.05, 0.01])
    def test_unequal_analyses_spend_alpha_by_scipys_multivariate_normal(self, analyses, alpha):
        found = obrien_fleming(analyses, alpha=alpha)
        for count in range(1, len(analyses) + 1):
            spent = crossing(analyses[:count], found.z[:count])
            # The integral of scipy 1.15 is off by 2.3e-6 where two analyses nearly coincide.
            assert found.spent[count - 1] == pytest.approx(spent, abs=5e-6)
        assert found.spent[-1] == pytest.approx(alpha, abs=1e-10)

    def test_they_fall_with_the_root_of_the_seeds_and_nominal_levels_are_their_tails(self):
        found = obrien_fleming(ANALYSES)
        assert [z * math.sqrt(n) for z, n in zip(found.z, ANALYSES, strict=True)] == pytest.approx(
            [found.z[-1] * math.sqrt(18)] * 3
        )
        assert found.nominal == pytest.approx([2 * stats.norm.sf(z) for z in found.z], rel=1e-9)
        assert found.spent[0] == pytest.approx(found.nominal[0], rel=1e-9)

    def test_one_analysis_is_the_ordinary_test(self):
        found = obrien_fleming([18])
        assert (found.z[0], found.nominal[0], found.spent) == (
            pytest.approx(1.959964, abs=1e-6),
            pytest.approx(0.05),
            (pytest.approx(0.05),),
        )

    @pytest.mark.parametrize("analyses", [range(5, 41), range(100, 301)])
    def test_many_analyses_are_resolved_too(self, analyses):
        found = obrien_fleming(analyses)
        assert found.spent[-1] == pytest.approx(0.05, abs=1e-10)
        paths = np.cumsum(np.random.default_rng(0).normal(size=(20_000, analyses[-1])), axis=1)[:, analyses[0] - 1 :]
        crossed = (np.abs(paths) >= np.array(found.z) * np.sqrt(np.array(analyses))).any(axis=1).sum()
        ends = stats.binomtest(int(crossed), 20_000).proportion_ci(0.95)
        assert ends.low <= 0.05 <= ends.high

    @pytest.mark.parametrize("analyses", [[], [4, 10], [5, 5], [10, 5]])
    def test_analyses_that_are_none_are_refused(self, analyses):
        with pytest.raises(InputError, match="interim: must be ascending numbers of seeds from 5 on, such as"):
            obrien_fleming(analyses)

    def test_an_alpha_that_is_none_is_refused(self):
        with pytest.raises(InputError, match="alpha: a level lies between 0 and 1, got 1"):
            obrien_fleming(ANALYSES, alpha=1)


class TestRepeatedP:
    @pytest.mark.parametrize("alpha", [0.2, 0.05, 0.004])
    def test_at_the_boundary_it_is_the_overall_level(self, alpha):
        for at, nominal in zip(ANALYSES, obrien_fleming(ANALYSES, alpha=alpha).nominal, strict=True):
            assert repeated_p(nominal, at, ANALYSES) == pytest.approx(alpha, rel=1e-8)

    def test_one_sided_by_scipys_multivariate_normal(self):
        at = [stats.norm.isf(0.02) * math.sqrt(10 / n) for n in ANALYSES]
        correlation = [[math.sqrt(min(a, b) / max(a, b)) for b in ANALYSES] for a in ANALYSES]
        exact = 1 - stats.multivariate_normal.cdf(at, cov=correlation, abseps=1e-7, maxpts=1_000_000)
        assert repeated_p(0.02, 10, ANALYSES, two_sided=False) == pytest.approx(exact, abs=2e-6)

    def test_one_analysis_changes_nothing(self):
        assert repeated_p(0.03, 9, [9]) == pytest.approx(0.03)
        assert repeated_p(0.7, 9, [9], two_sided=False) == pytest.approx(0.7)

    @settings(max_examples=60, deadline=None)
    @given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(ANALYSES), st.booleans())
    def test_it_is_a_probability_that_rises_with_p_and_is_never_below_it(self, p, q, at, two_sided):
        low, high = (repeated_p(value, at, ANALYSES, two_sided=two_sided) for value in sorted((p, q)))
        assert 0 <= low <= high + 1e-12 <= 1 + 1e-12
        assert low >= min(p, q) * (1 - 1e-9) - 1e-12

    def test_the_ends(self):
        assert repeated_p(0.0, 5, ANALYSES) == 0.0
        assert repeated_p(1.0, 10, ANALYSES) == repeated_p(1.0, 10, ANALYSES, two_sided=False) == pytest.approx(1.0)
        assert 0 < repeated_p(1e-300, 10, ANALYSES) < 1e-150

    @pytest.mark.parametrize(
        ("p", "at", "sentence"), [(math.nan, 5, "p: a probability"), (0.5, 7, "at: no interim analysis was")]
    )
    def test_what_is_none_is_refused(self, p, at, sentence):
        with pytest.raises(InputError, match=sentence):
            repeated_p(p, at, ANALYSES)


class TestAnalysis:
    def test_a_large_difference_stops_at_the_first_look(self):
        found = taken(arms(2.0, sd=0.05), 5)
        (finding,) = found.family.findings
        assert (found.stop, found.next_seeds, finding.verdict) == (True, (), "resolved")
        assert finding.contrast.t_p < obrien_fleming(ANALYSES).nominal[0]
        assert found.sentence.startswith(
            "Interim analysis 1 of 3, at 5 of 18 seeds: stop: every comparison has its verdict."
        )

    def test_the_first_analysis_asks_for_far_more_than_the_fixed_design(self):
        values = arms(0.5, sd=0.2, seed=3)
        first = {name: {seed: found[seed] for seed in range(1, 6)} for name, found in values.items()}
        assert family(first, [("tskd", "kd")]).findings[0].verdict == "resolved"
        found = taken(values, 5)
        assert (found.stop, found.family.findings[0].verdict) == (False, "undecided")
        assert found.next_seeds == (6, 7, 8, 9, 10)
        assert "go on to 10 seeds: 1 of 1 comparison without a decision" in found.sentence

    def test_the_evidence_is_the_smallest_repeated_p_so_far(self):
        values = arms(0.3, seed=1)
        by_analysis = [
            family({name: {s: found[s] for s in range(1, n + 1)} for name, found in values.items()}, [("tskd", "kd")])
            for n in ANALYSES
        ]
        p_values = [
            repeated_p(one.findings[0].contrast.t_p, n, ANALYSES) for one, n in zip(by_analysis, ANALYSES, strict=True)
        ]
        tost = [
            repeated_p(one.findings[0].contrast.tost_p, n, ANALYSES, two_sided=False)
            for one, n in zip(by_analysis, ANALYSES, strict=True)
        ]
        for number, n in enumerate(ANALYSES, 1):
            (finding,) = taken(values, n).family.findings
            assert finding.evidence.p == min(p_values[:number])
            assert finding.evidence.tost_p == min(tost[:number])
            assert finding.contrast == by_analysis[number - 1].findings[0].contrast

    def test_what_was_resolved_stays_resolved(self):
        values = arms(2.0, sd=0.05)
        values["tskd"] |= {seed: values["kd"][seed] + 9.0 * (-1) ** seed for seed in range(6, 19)}
        assert taken(values, 5).family.findings[0].verdict == "resolved"
        assert taken(values, 18).family.findings[0].verdict == "resolved"
        assert family(values, [("tskd", "kd")]).findings[0].holm_p > 0.05

    def test_the_seeds_of_a_design_without_analyses_are_not_named_where_they_are_there_already(self):
        (finding,) = taken(arms(0.5, sd=0.115, seed=3), 5).family.findings
        assert (finding.verdict, finding.contrast.n) == ("undecided", 5)
        assert finding.needed.resolve[1] <= 5
        assert "a difference of this size needs" not in finding.sentence

    def test_equivalence_is_adjusted_one_sided(self):
        values = arms(0.0, sd=0.08, seed=2)
        found = taken(values, 10)
        (finding,) = found.family.findings
        assert (found.stop, finding.verdict) == (True, "equivalent")
        assert finding.contrast.tost_p < finding.evidence.tost_p <= 0.05
        assert "(TOST, adjusted for 3 interim analyses: p = " in finding.sentence
        assert taken(values, 10, margin=0.02).family.findings[0].verdict == "undecided"

    def test_the_interval_is_at_the_level_of_the_boundary(self):
        found = taken(arms(0.3), 10)
        (finding,) = found.family.findings
        nominal = found.boundaries.nominal[1]
        differences = [arms(0.3)["tskd"][seed] - arms(0.3)["kd"][seed] for seed in range(1, 11)]
        expected = stats.t.interval(1 - nominal, 9, np.mean(differences), stats.sem(differences))
        interval = finding.evidence.interval
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)
        assert "99.23 % interval" in finding.sentence

    def test_the_last_analysis_stops_whatever_it_finds(self):
        found = taken(arms(0.2, sd=0.6, seed=5), 18)
        assert (found.stop, found.family.findings[0].verdict, found.next_seeds) == (True, "undecided", ())
        assert "stop: this is the last interim analysis, 1 of 1 comparison without a decision" in found.sentence
        assert found.alpha_spent == pytest.approx(0.05)

    def test_alpha_is_spent_analysis_by_look(self):
        values = arms(0.0)
        spent = [taken(values, at).alpha_spent for at in ANALYSES]
        assert spent == list(obrien_fleming(ANALYSES).spent)
        assert spent[0] < 0.001 < spent[1] < 0.01 < spent[2]

    def test_later_seeds_are_not_read_and_the_declared_order_counts(self):
        values = arms(0.3)
        spoiled = {name: dict(found) for name, found in values.items()}
        spoiled["tskd"] |= dict.fromkeys(range(11, 19), 0.0)
        assert taken(spoiled, 10) == taken(values, 10)
        backwards = analysis(values, [("tskd", "kd")], seeds=SEEDS[::-1], interim=ANALYSES, at=5)
        assert backwards.family.findings[0].contrast.seeds == (14, 15, 16, 17, 18)
        assert backwards.next_seeds == (13, 12, 11, 10, 9)

    def test_it_goes_on_until_every_contrast_is_decided(self):
        values = arms(2.0, sd=0.05) | {"at": arms(0.15, sd=0.3, seed=9)["tskd"]}
        pairs = [("tskd", "kd"), ("at", "kd")]
        found = analysis(values, pairs, seeds=SEEDS, interim=ANALYSES, at=5)
        assert [finding.verdict for finding in found.family.findings] == ["resolved", "undecided"]
        assert not found.stop
        assert "1 of 2 comparisons without a decision" in found.sentence
        alone = analysis(values, pairs[:1], seeds=SEEDS, interim=ANALYSES, at=5).family.findings[0]
        assert found.family.findings[0].holm_p == pytest.approx(2 * alone.holm_p)

    def test_a_failed_seed_is_missing_and_named(self):
        values = arms(0.3)
        del values["tskd"][3]
        first, second = taken(values, 5), taken(values, 10)
        assert first.family.findings[0].verdict is None
        assert not first.stop
        assert second.family.findings[0].contrast.n == 9
        assert "seed 3 only in 'kd', not counted" in second.family.findings[0].sentence

    def test_arms_that_share_no_seed_have_no_test(self):
        values = {"tskd": dict.fromkeys(range(1, 10), 70.0) | {1: 70.5}, "kd": dict.fromkeys(range(10, 19), 60.0)}
        (finding,) = taken(values, 18).family.findings
        assert (finding.verdict, finding.evidence.p) == ("undecided", None)
        assert finding.sentence.endswith("Undecided: this is an interim analysis, so unpaired arms have no test.")

    def test_identical_arms_stop_as_equivalent(self):
        values = arms(0.0)
        found = taken({"tskd": values["kd"], "kd": values["kd"]}, 10)
        assert (found.stop, found.family.findings[0].verdict) == (True, "equivalent")
        assert (
            "Check that the option in which the arms differ reaches the training" in found.family.findings[0].sentence
        )

    def test_plain_data_carry_the_verdict(self):
        told = json.loads(json.dumps(plain(taken(arms(0.3), 10)), allow_nan=False))
        assert told["family"]["findings"][0]["verdict"] in ("resolved", "equivalent", "undecided")
        assert told["boundaries"]["interim"] == [5, 10, 18]
        assert json.loads(json.dumps(plain(obrien_fleming(ANALYSES))))["z"][0] == pytest.approx(3.7675, abs=1e-4)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"at": 7}, "at: no interim analysis was declared at 7 seeds; declared: 5, 10 and 18"),
            ({"interim": (5, 20)}, "interim: the last analysis is at 20 seeds, but 18 seeds are declared"),
            ({"seeds": [1] * 18}, "seeds: each must be given once"),
        ],
    )
    def test_what_was_not_declared_is_refused(self, options, sentence):
        with pytest.raises(InputError, match=sentence):
            analysis(arms(0.3), [("tskd", "kd")], **({"seeds": SEEDS, "interim": ANALYSES, "at": 5} | options))


def test_a_analysis_with_fewer_than_five_common_seeds_adds_no_evidence():
    """One of the first five seeds failed. The four others alone would be decisive; ten seeds are not."""
    base = dict.fromkeys(range(1, 11), 70.0)
    clear = {1: 71.0, 2: 71.01, 3: 70.99, 4: 71.0}
    later = {6: 69.2, 7: 70.9, 8: 69.5, 9: 70.4, 10: 69.6}
    seeds = list(range(1, 11))
    (finding,) = analysis(
        {"a": clear | later, "b": base}, [("a", "b")], seeds=seeds, interim=[5, 10], at=10
    ).family.findings
    alone = contrast(clear, base)
    assert alone.n == 4 and repeated_p(alone.p, 5, [5, 10]) < 1e-3
    assert finding.contrast.n == 9
    assert finding.evidence.p == repeated_p(finding.contrast.p, 10, [5, 10]) > 0.05


class TestSplit:
    def judged(self, values, first=5, **options):
        seeds = sorted(next(iter(values.values())))
        pairs = [(name, "base") for name in values if name != "base"]
        ended = {name: set(seeds) for name in values}
        return split(values, pairs, seeds=seeds, first=first, ended=ended, **options)

    def test_no_verdict_contradicts_its_interval_and_nothing_resolved_is_lost_while_its_sign_stays(self):
        random, seen = np.random.default_rng(8), set()
        for table in range(12):
            drawn = 70 + 0.3 * random.standard_normal((4, 14)) + np.array([0, 0.5, 0.02, 0.9])[:, None] * (table % 2)
            before = {}
            for n in range(5, 15, 3):
                values = {name: dict(enumerate(of[:n])) for name, of in zip(("base", *"abc"), drawn, strict=True)}
                for finding in self.judged(values, margin=0.6).findings:
                    interval, name = finding.evidence.interval, finding.contrast.arm
                    seen.add(finding.verdict)
                    assert interval.level == pytest.approx(1 - 0.05 / 3)
                    assert (finding.verdict == "resolved") == (not interval.low < 0 < interval.high)
                    assert (interval.low > -0.6 and interval.high < 0.6) == finding.is_within or interval.excludes == 0
                    same = before.get(name, 0.0) * finding.contrast.difference > 0
                    assert not same or finding.verdict == "resolved"
                    if finding.verdict == "resolved":
                        before[name] = finding.contrast.difference
        assert seen == {"resolved", "equivalent", "undecided"}

    def test_holm_leaves_an_interval_open_at_zero(self):
        path = [1.0, 1.3, 0.8, 1.1, 1.2]
        clear = dict(enumerate(path))
        values = {
            "base": dict.fromkeys(range(5), 0.0),
            "a": clear,
            "b": {seed: 1.9 * d - 1.46 for seed, d in clear.items()},
        }
        a, b = self.judged(values, margin=None).findings
        assert (a.verdict, b.verdict) == ("resolved", "resolved") and b.evidence.p > 0.025
        assert b.evidence.interval.low == 0.0 == b.evidence.interval.excludes
        assert "97.5 % interval above 0 to +" in b.sentence

    def test_equal_differences_and_unpaired_arms(self):
        base = dict.fromkeys(range(10), 70.0)
        same = self.judged({"base": base, "a": dict(base)}).findings[0]
        assert same.verdict == "equivalent" and "Check that the option" in same.sentence
        shifted = self.judged({"base": base, "a": dict.fromkeys(range(10), 70.5)}).findings[0]
        assert (shifted.verdict, shifted.evidence.p) == ("resolved", pytest.approx(11 / 1024 / 0.4))
        few = {seed: 70.0 + 0.1 * seed for seed in range(5)}
        other = {seed: 75.0 + 0.1 * seed for seed in range(5, 10)}
        seeds, ended = list(range(10)), {"a": set(range(10)), "b": set(range(10))}
        for first, verdict in ((10, "resolved"), (5, "undecided")):
            (finding,) = split({"a": few, "b": other}, [("a", "b")], seeds=seeds, first=first, ended=ended).findings
            assert finding.verdict == (verdict if first == 10 else finding.verdict)
            assert first == 10 or "unpaired arms have no test" in finding.sentence or finding.verdict is None

    def test_looks_use_the_exact_bounds(self):
        found = any_analysis(arms(0.3), [("tskd", "kd")], seeds=SEEDS, interim=ANALYSES, at=18)
        looks = Looks(tuple(ANALYSES))
        assert found.boundaries.nominal == pytest.approx([looks.level(n, 0.05) for n in ANALYSES])
        (finding,) = found.family.findings
        path = [(n, stats.ttest_1samp(differences(n), 0).statistic) for n in ANALYSES]
        assert finding.evidence.p == pytest.approx(looks.p(path), rel=1e-6)
        assert "adjusted for 3 interim analyses" in finding.sentence


def differences(n):
    values = arms(0.3)
    return [values["tskd"][seed] - values["kd"][seed] for seed in range(1, n + 1)]
