"""Holm, the verdict's rule and its sentences, by hand and against statsmodels."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric
from tskd_tune.reports.forms.plain import plain
from tskd_tune.reports.judge import power
from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.planning import upper_sd
from tskd_tune.reports.judge.records import Evidence
from tskd_tune.reports.judge.sentences import under_the_table
from tskd_tune.reports.judge.verdicts import contrasts, family, holm, holm_of_known, judge
from tskd_tune.reports.judge.words import difference_text, p_text, seeds_text

BASE = {1: 70.0, 2: 70.4, 3: 69.8, 4: 70.2, 5: 70.1, 6: 69.9, 7: 70.3, 8: 70.0, 9: 69.7, 10: 70.2}
WOBBLE = (0.03, -0.05, 0.01, 0.04, -0.02, 0.02, -0.03, 0.05, -0.04, -0.01)


def shifted(shift, wobble=1.0, n=10):
    """An arm whose differences to the base have exactly this mean over ten seeds, where WOBBLE adds up to nothing."""
    return {seed: BASE[seed] + shift + wobble * WOBBLE[seed - 1] for seed in range(1, n + 1)}


def one(arms, **options):
    (finding,) = family({"base": BASE, "arm": arms}, [("arm", "base")], **options).findings
    return finding


class TestHolm:
    def test_by_hand(self):
        # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 is .04, .06, .06, .04, and never less than the one before.
        assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
    def test_the_definition(self, p_values):
        adjusted = holm(p_values)
        for p, found in zip(p_values, adjusted, strict=True):
            ranked = sorted(p_values)
            steps = [(len(p_values) - rank) * at for rank, at in enumerate(ranked) if at <= p]
            assert found == pytest.approx(min(1.0, max(steps)))

    @pytest.mark.parametrize("seed", range(3))
    def test_against_statsmodels(self, seed):
        p_values = np.random.default_rng(seed).uniform(0, 0.2, 6)
        assert holm(list(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1], rel=1e-12)

    def test_what_has_no_p_value_counts_as_no_test(self):
        adjusted = holm_of_known([0.01, None, 0.04, 0.03])
        assert adjusted == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
        assert holm_of_known([None]) == [None] and holm_of_known([]) == []


class TestVerdict:
    def test_resolved_where_holm_allows_it(self):
        finding = one(shifted(0.5))
        assert (finding.verdict, finding.family_size) == ("resolved", 1)
        assert finding.holm_p == finding.evidence.p == finding.contrast.t_p < 0.001
        assert finding.needed is None

    def test_equivalent_where_the_difference_is_shown_to_be_within_the_margin(self):
        finding = one(shifted(0.0))
        assert (finding.verdict, finding.contrast.difference) == ("equivalent", pytest.approx(0.0, abs=1e-9))
        assert finding.evidence.tost_p == finding.contrast.tost_p <= 0.05

    def test_undecided_else(self):
        finding = one(shifted(0.1, wobble=15.0))
        assert finding.verdict == "undecided"
        assert finding.holm_p > 0.05 < finding.contrast.tost_p

    def test_the_margin_turns_equivalent_into_undecided(self):
        assert one(shifted(0.0, wobble=4.0), margin=0.3).verdict == "equivalent"
        assert one(shifted(0.0, wobble=4.0), margin=0.05).verdict == "undecided"

    def test_resolved_comes_before_equivalent_and_says_that_it_is_small(self):
        finding = one(shifted(0.1))
        assert finding.verdict == "resolved"
        assert finding.evidence.tost_p < 0.05
        assert "The difference is small: it is within ±0.3 points" in finding.sentence

    def test_holm_over_the_family_can_take_a_verdict_away(self):
        pair = contrast(shifted(0.35, wobble=14.0), BASE)
        alone = judge([replace(pair, t_p=0.02)])
        assert alone.findings[0].verdict == "resolved"
        three = judge([replace(pair, t_p=p) for p in (0.02, 0.3, 0.6)])
        assert [finding.holm_p for finding in three.findings] == pytest.approx([0.06, 0.6, 0.6])
        assert {finding.verdict for finding in three.findings} == {"undecided"}
        assert [finding.family_size for finding in three.findings] == [3, 3, 3]

    def test_at_exactly_five_hundredths_it_is_resolved(self):
        pair = contrast(shifted(0.35, wobble=14.0), BASE)
        assert judge([replace(pair, t_p=0.05)]).findings[0].verdict == "resolved"
        assert judge([replace(pair, t_p=0.0501)]).findings[0].verdict == "undecided"

    @pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
    def test_none_below_five_seeds_and_no_word_of_significance(self, n):
        finding = one(shifted(5.0, n=n))
        assert (finding.verdict, finding.holm_p, finding.evidence.p, finding.evidence.tost_p) == (None,) * 4
        assert finding.sentence.endswith(" No verdict.")
        for word in ("p =", "p <", "Resolved", "Equivalent", "Undecided", "test", "significant"):
            assert word not in finding.sentence

    def test_five_seeds_are_enough(self):
        assert one(shifted(5.0, n=5)).verdict == "resolved"

    def test_a_contrast_without_a_test_counts_in_the_family(self):
        arms = {"base": BASE, "kd": shifted(0.4, wobble=9.0), "smoke": shifted(9.0, n=3), "failed": {}}
        found = family(arms, [("kd", "base"), ("smoke", "base"), ("failed", "base")])
        kd, smoke, failed = found.findings
        assert kd.holm_p == pytest.approx(3 * kd.contrast.t_p)
        assert (smoke.verdict, failed.verdict, failed.family_size) == (None, None, 3)

    def test_other_evidence_decides_where_it_is_given(self):
        pair = contrast(shifted(0.5), BASE)
        found = judge([pair], [Evidence(0.2, 0.01, pair.interval_at(0.99), ", adjusted")]).findings[0]
        assert (found.verdict, found.holm_p) == ("equivalent", 0.2)
        assert "99 % interval" in found.sentence
        assert "TOST, adjusted: p = 0.01" in found.sentence


class TestNoSpread:
    def test_identical_arms_are_equivalent_and_the_reader_is_told_to_check(self):
        finding = one(dict(BASE))
        assert (finding.verdict, finding.contrast.spread, finding.holm_p) == ("equivalent", "identical", 1.0)
        assert finding.sentence == (
            "'arm' against 'base': +0.00 points (10 seeds, paired, the same value in every seed). Equivalent: the "
            "difference is within ±0.3 points (TOST: p = 0.000977). Check that the option in which the arms "
            "differ reaches the training."
        )

    def test_sign_flips_stand_in_where_the_difference_is_constant(self):
        six = one({seed: BASE[seed] + 0.5 for seed in range(1, 7)})
        assert (six.verdict, six.holm_p, six.contrast.spread) == ("resolved", 1 / 32, "constant")
        five = one({seed: BASE[seed] + 0.5 for seed in range(1, 6)})
        assert (five.verdict, five.holm_p) == ("undecided", 1 / 16)
        assert "the same difference in every seed" in five.sentence
        assert "sign flips, a single comparison: p = 0.0625" in five.sentence

    def test_unpaired_arms_without_a_spread_stay_undecided(self):
        found = family({"a": dict.fromkeys(range(5), 70.0), "b": dict.fromkeys(range(5, 10), 70.0)}, [("a", "b")])
        assert found.findings[0].verdict == "undecided"
        assert found.findings[0].sentence == (
            "'a' against 'b': +0.00 points (5 seeds per arm, unpaired: no seed is shared, no variation in either"
            " arm). Undecided: neither arm varies over its seeds, so unpaired arms have no test."
        )
        assert found.visible is None
        assert found.sentence.startswith("No difference varies over seeds")


class TestSeedsNeeded:
    def test_they_are_counted_at_holms_strictest_step(self):
        arm = shifted(0.2, wobble=12.0)
        alone = one(arm)
        sd = alone.contrast.sd
        assert alone.verdict == "undecided"
        upper = upper_sd(sd, 9)
        assert upper == pytest.approx(sd * math.sqrt(9 / stats.chi2.ppf(0.2, 9)))
        difference = alone.contrast.difference
        assert alone.needed.resolve == tuple(power.seeds_needed(difference, each) for each in (sd, upper))
        assert alone.needed.equivalence == tuple(power.seeds_for_equivalence(0.3, each) for each in (sd, upper))
        two = family({"base": BASE, "a": arm, "b": shifted(0.0)}, [("a", "base"), ("b", "base")]).findings[0]
        assert two.needed.resolve[0] == power.seeds_needed(0.2, sd, alpha=0.025) > alone.needed.resolve[0]
        assert two.needed.equivalence[1] == power.seeds_for_equivalence(0.3, upper, alpha=0.025)

    def test_equivalence_is_out_of_sight_where_the_difference_is_outside_the_margin(self):
        finding = one(shifted(0.4, wobble=30.0))
        low, high = finding.needed.resolve
        assert (finding.verdict, finding.needed.equivalence) == ("undecided", None)
        assert finding.sentence.endswith(
            f"With 80 % power, a difference of this size needs {low} to {high} seeds in all, in a new run."
        )

    def test_too_many_are_said_to_be_too_many(self):
        finding = one(shifted(0.001, wobble=30.0))
        assert finding.needed.resolve == (None, None)
        assert "needs more than 10,000 seeds in all" in finding.sentence


class TestSentences:
    def test_resolved(self):
        finding = one(shifted(0.5))
        interval = finding.contrast.interval
        assert finding.sentence == (
            f"'arm' against 'base': +0.50 points (95 % interval {interval.low:+.2f} to {interval.high:+.2f}, 10 seeds, "
            "paired). Resolved: 'arm' is better by 0.50 points; seed noise is an unlikely cause (paired t test, a"
            " single comparison: p < 0.0001; exact sign flips: p = 0.00195, 10 seeds reach 0.00195 at best)."
        )

    def test_equivalent(self):
        finding = one(shifted(-0.004, wobble=2.0))
        assert finding.sentence.startswith("'arm' against 'base': +0.00 points (95 % interval -0.05 to +0.05")
        assert ". Equivalent: the difference is within ±0.3 points (TOST: p < 0.0001)." in finding.sentence

    def test_undecided(self):
        finding = one(shifted(-0.2, wobble=15.0))
        assert "Undecided: no difference is shown (paired t test, a single comparison: p = " in finding.sentence
        assert ") and no equivalence within ±0.3 points (TOST: p = " in finding.sentence
        plan = finding.needed
        assert finding.sentence.endswith(
            f"With 80 % power, a difference of this size needs {plan.resolve[0]} to {plan.resolve[1]} seeds in all, in"
            f" a new run. If the true difference is 0, {plan.equivalence[0]} to {plan.equivalence[1]} seeds show"
            " equivalence with 80 % power."
        )

    def test_undecided_though_equivalence_was_within_reach(self):
        arms = {"base": BASE, "arm": shifted(0.16, wobble=4.9)} | {name: shifted(0.0, wobble=5.0) for name in "abcd"}
        finding = family(arms, [(name, "base") for name in arms if name != "base"]).findings[0]
        assert finding.verdict == "undecided" and finding.needed.equivalence[1] <= 10
        assert finding.sentence.endswith("If the true difference were 0, 10 seeds would likely have shown equivalence.")

    def test_seeds_of_one_arm_are_named(self):
        arm = shifted(0.5, n=6) | {20: 70.0}
        assert (
            "6 seeds, paired; seed 20 only in 'arm', not counted; seeds 7, 8, 9, 10 only in 'base', not counted"
            in one(arm).sentence
        )

    def test_seeds_of_unpaired_arms_are_counted_in_each_arm(self):
        arm = {seed + 100: value for seed, value in shifted(0.15).items()}
        sentence = one(arm).sentence
        assert "seeds in each arm, in a new run." in sentence and "in all" not in sentence

    def test_unpaired_arms_are_marked(self):
        arm = {seed + 100: value for seed, value in shifted(0.9).items()}
        sentence = one(arm).sentence
        assert "10 seeds per arm, unpaired: no seed is shared)" in sentence
        assert "(Welch's t test, a single comparison: p < 0.0001)" in sentence

    def test_a_common_seed_that_is_missing_or_alone(self):
        none, single = one({}), one({1: 70.5})
        assert none.sentence.startswith("'arm' against 'base': no seed has finished in both arms; seeds 1, 2,")
        assert single.sentence.startswith("'arm' against 'base': +0.50 points (1 seed, paired; seeds 2, 3,")

    @pytest.mark.parametrize(
        ("said", "text"),
        [
            (difference_text(-0.421), "-0.42 points"),
            (difference_text(-0.001), "+0.00 points"),
            (p_text(0.05001), "p = 0.05"),
            (p_text(0.0626), "p = 0.0626"),
            (p_text(0.00009), "p < 0.0001"),
            (seeds_text(1), "1 seed"),
            (seeds_text(2500), "2,500 seeds"),
        ],
    )
    def test_numbers(self, said, text):
        assert said == text


class TestVisible:
    def test_it_is_a_range_over_the_table_with_the_upper_limits_of_the_spreads(self):
        arms = {"base": BASE, "a": shifted(0.0, wobble=5.0), "b": shifted(0.3, wobble=9.0, n=8)}
        found = family(arms, [("a", "base"), ("b", "base")])
        a, b = (finding.contrast.sd for finding in found.findings)
        seen = found.visible
        assert (seen.n, seen.contrasts, seen.paired, seen.sd_low, seen.sd_high) == (8, 2, True, a, b)
        assert seen.smallest == pytest.approx(power.smallest_difference(upper_sd(a, 9), 10, alpha=0.025))
        assert seen.largest == pytest.approx(power.smallest_difference(upper_sd(b, 7), 8, alpha=0.025))
        assert found.sentence == (
            f"This design detects differences of {seen.smallest:.2f} to {seen.largest:.2f} points or more (80 % power,"
            " after the strictest Holm correction over 2 comparisons, two-sided paired t test at 0.05, 8 seeds per arm,"
            f" standard deviation of the differences {a:.2f} to {b:.2f}, taken at its upper 80 % limit)."
        )

    def test_a_difference_beyond_the_scale_is_no_difference_that_is_detected(self):
        """With two seeds a report said "detects differences of 359 points", of a metric from 0 to 100."""
        base = {1: 50.0, 2: 50.0}
        wide, near = {1: 30.0, 2: 70.0}, {1: 50.0, 2: 50.1}
        found = family({"base": base, "wide": wide}, [("wide", "base")])
        assert found.visible.smallest > 100
        assert found.sentence.startswith(
            "This design detects no difference: even one of 100 points, the largest that there can be, is too"
            " small (80 % power, two-sided paired t test at 0.05, 2 seeds per arm,"
        )
        assert found.sentence.endswith("at its upper 80 % limit). Train more seeds, with `tskd-tune extend`.")
        both = family({"base": base, "wide": wide, "near": near}, [("wide", "base"), ("near", "base")])
        assert both.visible.smallest < 100 < both.visible.largest
        assert both.sentence.startswith(
            f"This design detects differences of {both.visible.smallest:.2f} points or more in one comparison, and in"
            " another not even 100 points, the largest there can be (80 % power,"
        )
        loss = under_the_table(found.visible, [found.findings[0].contrast], Metric("loss", "loss", "", "min", digits=4))
        assert f"detects differences of {found.visible.smallest:.4f} or more" in loss and "extend" not in loss

    def test_it_is_that_of_the_paired_noncentral_t(self):
        seen = family({"base": BASE, "arm": shifted(0.0, wobble=5.0)}, [("arm", "base")]).visible
        ncp = seen.smallest / seen.sd_low * math.sqrt(stats.chi2.ppf(0.2, 9) / 9) * math.sqrt(10)
        assert stats.nct.sf(stats.t.isf(0.025, 9), 9, ncp) == pytest.approx(0.8, abs=1e-6)
        assert seen.fixed_smallest == seen.smallest == seen.largest

    def test_contrasts_below_five_seeds_count_only_where_no_other_is_there(self):
        pairs = [("a", "base"), ("b", "base")]
        few, many = shifted(0.0, wobble=9.0, n=3), shifted(0.0, wobble=5.0)
        mixed = family({"base": BASE, "a": few, "b": many}, pairs).visible
        assert (mixed.n, mixed.contrasts) == (10, 1)
        smoke = family({"base": BASE, "a": few, "b": few}, pairs).visible
        assert (smoke.n, smoke.contrasts) == (3, 2)

    def test_unpaired_tables_say_so(self):
        arm = {seed + 100: value for seed, value in shifted(0.1).items()}
        found = family({"base": BASE, "arm": arm}, [("arm", "base")])
        assert found.visible.paired is False
        item = found.findings[0].contrast
        assert found.visible.largest == pytest.approx(
            power.smallest_difference(upper_sd(item.sd, item.df), 10, paired=False)
        )
        assert "two-sided unpaired t test at 0.05, 10 seeds per arm" in found.sentence


class TestInput:
    @pytest.mark.parametrize(
        ("pairs", "sentence"),
        [
            ([("tksd", "kd")], "comparison tksd - kd: unknown arm 'tksd'; did you mean 'tskd'"),
            ([("kd", "kd")], "comparison kd - kd: an arm cannot be compared with itself"),
            ([("kd", "tskd"), ("tskd", "kd")], "is given twice"),
            ([], "compare: there is nothing to compare"),
        ],
    )
    def test_a_family_that_is_none_is_refused(self, pairs, sentence):
        with pytest.raises(InputError, match=sentence):
            family({"kd": BASE, "tskd": shifted(0.5)}, pairs)

    def test_margins_that_differ_are_refused(self):
        pairs = [contrast(BASE, shifted(0.1), margin=margin) for margin in (0.3, 0.5)]
        with pytest.raises(InputError, match=r"compare.margin: all comparisons must share one margin, got 0\.3, 0\.5"):
            judge(pairs)

    def test_a_nan_is_refused_by_arm_and_seed(self):
        with pytest.raises(InputError, match="arm 'kd': seed 2 has the value nan"):
            contrasts({"kd": {2: math.nan}, "ce": BASE}, [("kd", "ce")])


def test_plain_data_carry_the_verdict_and_every_number():
    arms = {"base": BASE, "a": shifted(0.5), "b": dict(BASE), "c": shifted(0.2, n=3), "d": {}, "e": {50: 1.0}}
    found = family(arms, [(name, "base") for name in "abcde"])
    told = json.loads(json.dumps(plain(found), allow_nan=False))
    assert [finding["verdict"] for finding in told["findings"]] == ["resolved", "equivalent", None, None, None]
    first = told["findings"][0]
    assert first["contrast"]["p"] == first["evidence"]["p"] == found.findings[0].contrast.t_p
    assert (told["margin"], told["alpha"], told["visible"]["n"]) == (0.3, 0.05, 10)
    assert told["findings"][1]["contrast"]["spread"] == "identical"


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.dictionaries(st.integers(0, 9), st.integers(0, 40).map(lambda right: 100 * right / 360), max_size=9),
        min_size=2,
    )
)
def test_whatever_the_arms_there_is_no_nan_and_a_sentence_for_each(arms):
    names = sorted(arms)
    found = family(arms, [(name, names[0]) for name in names[1:]])
    text = json.dumps(plain(found), allow_nan=False)
    assert "nan" not in text
    assert all(finding.sentence.endswith(".") for finding in found.findings)
    for finding in found.findings:
        assert (finding.verdict is None) == (finding.contrast.n < 5)


def test_a_resolved_difference_that_rounds_to_nothing_is_less_than_the_last_decimal():
    rng = np.random.default_rng(2)
    base = {seed: 70.0 + float(rng.standard_normal()) for seed in range(1, 61)}
    tiny = {seed: value + 0.003 + 0.001 * float(rng.standard_normal()) for seed, value in base.items()}
    (found,) = family({"base": base, "arm": tiny}, [("arm", "base")]).findings
    assert found.verdict == "resolved" and "'arm' is better by less than 0.01 points;" in found.sentence
    assert "; sign flips (Monte Carlo, 99,999 flips): p < 0.0001, 60 seeds reach 1e-05 at best" in found.sentence
