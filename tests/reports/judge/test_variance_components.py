"""The two-way analysis of variance of differences under several teachers, and the test over teachers and seeds."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from tskd_tune.errors import InputError
from tskd_tune.reports.judge import sequential, verdicts
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.contrasts import contrast
from tskd_tune.reports.judge.protocol import Protocol
from tskd_tune.reports.judge.records import Family
from tskd_tune.reports.judge.teachers_evidence import over_teachers, share_text
from tskd_tune.reports.judge.variance_components import Between, Cells, Crossed, differences, teachers_of

PAIR = ("tskd", "ce")


def cells(table: np.ndarray) -> dict[int, dict[int, float]]:
    """Return a table, ``[teachers, seeds]``, as cells with the seeds 0, 1, ..."""
    return {t: {s: float(value) for s, value in enumerate(row)} for t, row in enumerate(table)}


def simulated(random: np.random.Generator, sds: tuple[float, float, float], shape: tuple[int, int]) -> np.ndarray:
    """Draw differences with standard deviations of teacher, seed and error."""
    teacher, seed, error = sds
    count, n = shape
    parts = random.standard_normal((count, 1)), random.standard_normal((1, n)), random.standard_normal(shape)
    return np.asarray(teacher * parts[0] + seed * parts[1] + error * parts[2])


def judged(found: Cells, rule: str, first: int = 5) -> Family:
    """Judge one comparison of two arms whose differences are given."""
    seeds = list(found[0])
    values = {
        "tskd": {s: float(np.mean([of[s] for of in found.values()])) for s in seeds},
        "ce": dict.fromkeys(seeds, 0.0),
    }
    under: Crossed = {PAIR: found}
    if rule == "fixed":
        return verdicts.family(values, [PAIR], protocol=Protocol(), crossed=under)
    if rule == "looks":
        return sequential.analysis(
            values, [PAIR], seeds=seeds, interim=[5, len(seeds)], at=len(seeds), crossed=under
        ).family
    ended = dict.fromkeys(PAIR, seeds)
    return sequential.split(values, [PAIR], seeds=seeds, first=first, ended=ended, crossed=under)


# The analysis of variance


def test_the_variances_are_those_of_the_written_out_formulas_and_of_statsmodels() -> None:
    table = simulated(np.random.default_rng(1), (1.0, 0.7, 0.4), (3, 6))
    found = teachers_of(cells(table), list(range(6)))
    long = pd.DataFrame([{"d": table[t, s], "t": t, "s": s} for t, s in product(range(3), range(6))])
    anova = anova_lm(ols("d ~ C(t) + C(s)", data=long).fit())
    squares = [float(anova.loc[name, "mean_sq"]) for name in ("C(t)", "C(s)", "Residual")]
    assert found is not None
    assert (found.count, found.n, found.seeds) == (3, 6, (0, 1, 2))
    assert found.var_error == pytest.approx(squares[2])
    assert found.var_teacher == pytest.approx((squares[0] - squares[2]) / 6)
    assert found.var_seed == pytest.approx((squares[1] - squares[2]) / 3)
    assert found.se == pytest.approx(table.mean(axis=1).std(ddof=1) / math.sqrt(3))
    assert found.means == pytest.approx(table.mean(axis=1))


def test_a_negative_variance_counts_as_zero() -> None:
    found = teachers_of(cells(np.array([[1.0, 3.0], [3.0, 1.0]])), [0, 1])
    assert found is not None
    assert (found.var_teacher, found.var_seed, found.share, found.share_low) == (0.0, 0.0, 0.0, 0.0)


def test_the_share_and_its_interval_are_those_of_shrout_and_fleiss() -> None:
    # The ratings of Shrout and Fleiss 1979: 6 subjects, who take the place of teachers, and 4 judges.
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = teachers_of(cells(np.array(ratings, dtype=float)), list(range(4)))
    assert found is not None
    assert found.share == pytest.approx(0.2898, abs=1e-4)
    assert (found.share_low, found.share_high) == pytest.approx((0.0188, 0.7611), abs=1e-4)


@pytest.mark.parametrize("sds", [(1.0, 1.0, 1.0), (0.5, 0.2, 1.0), (2.0, 0.5, 0.5)])
def test_the_interval_of_the_share_contains_the_true_share(sds: tuple[float, float, float]) -> None:
    random, true = np.random.default_rng(2), sds[0] ** 2 / sum(sd**2 for sd in sds)
    found = [teachers_of(cells(simulated(random, sds, (3, 5))), list(range(5))) for _ in range(600)]
    hits = [
        one.share_low <= true <= one.share_high for one in found if one and one.share_low is not None and one.share_high
    ]
    assert sum(hits) / len(found) > 0.92


def test_equal_differences_have_no_share() -> None:
    found = teachers_of(cells(np.full((2, 3), 0.1)), [0, 1, 2])
    assert found is not None
    assert (found.share, found.share_low, found.se) == (None, None, 0.0)
    assert share_text(found).startswith("The differences do not vary")


@pytest.mark.parametrize(("shape", "seeds"), [((1, 5), [0, 1, 2]), ((3, 5), [4])])
def test_one_teacher_or_one_seed_has_no_analysis(shape: tuple[int, int], seeds: list[int]) -> None:
    assert teachers_of(cells(np.ones(shape)), seeds) is None


def test_an_arm_without_a_teacher_is_compared_under_each_teacher_of_the_other() -> None:
    ours = {0: {1: 5.0, 2: 6.0}, 1: {1: 7.0, 2: 9.0, 3: 1.0}}
    values, others = {1: 6.0, 2: 7.5}, {1: 1.0, 2: 2.0}
    assert differences(ours, {}, values, others) == {0: {1: 4.0, 2: 4.0}, 1: {1: 6.0, 2: 7.0}}
    assert differences({}, ours, others, values) == {0: {1: -4.0, 2: -4.0}, 1: {1: -6.0, 2: -7.0}}
    with pytest.raises(InputError, match=r"teacher.seeds: .* 0, 1 and 0, 2"):
        differences(ours, {0: {}, 2: {}}, values, others)


# The test


def test_the_interval_is_that_of_the_written_out_formula() -> None:
    table = simulated(np.random.default_rng(3), (0.3, 0.5, 0.2), (3, 6)) + 0.8
    item = contrast(dict(enumerate(table.mean(axis=0))), dict.fromkeys(range(6), 0.0), cells=cells(table))
    found = over_teachers(item, 0.95)
    over_t, over_s = (table.mean(axis=axis).std(ddof=1) / math.sqrt(size) for axis, size in ((1, 3), (0, 6)))
    half = math.hypot(stats.t.ppf(0.975, 2) * over_t, stats.t.ppf(0.975, 5) * over_s)
    assert found is not None
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((table.mean() - half, table.mean() + half))
    assert found.adjusted == ", over 3 teachers and the seeds"


@pytest.mark.parametrize("se", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("difference", [0.3, 1.0, 3.0])
def test_the_p_is_the_level_at_which_the_interval_ends_at_zero(difference: float, se: float) -> None:
    between, of_seeds, df = Between(3, se, share=0.8), 0.2, 5
    p = between.p(difference, lambda part: float(2 * stats.t.sf(part * difference / of_seeds, df)))
    half = between.half(float(stats.t.ppf(1 - p / 2, df)) * of_seeds, p)
    assert p >= 1 or half == pytest.approx(difference, rel=1e-6)
    assert p >= 2 * stats.t.sf(difference / of_seeds, df) - 1e-12


def test_many_seeds_do_not_resolve_what_two_teachers_leave_open() -> None:
    table = np.array([[0.2] * 10, [1.8] * 10]) + 0.05 * np.random.default_rng(4).standard_normal((2, 10))
    mean = {s: float(value) for s, value in enumerate(table.mean(axis=0))}
    seeds_alone = verdicts.family({"tskd": mean, "ce": dict.fromkeys(mean, 0.0)}, [PAIR], protocol=Protocol()).findings[
        0
    ]
    assert seeds_alone.verdict == "resolved"
    for rule in ("fixed", "split", "looks"):
        finding = judged(cells(table), rule).findings[0]
        assert finding.verdict == "undecided"
        assert finding.needed is None
        assert "10 seeds under each of 2 teachers, paired" in finding.sentence
        assert "over 2 teachers and the seeds: p = " in finding.sentence
        assert "sign flips" not in finding.sentence


def test_a_difference_that_all_teachers_show_is_resolved() -> None:
    table = 2.0 + 0.1 * np.random.default_rng(5).standard_normal((3, 10))
    for rule in ("fixed", "split", "looks"):
        found = judged(cells(table), rule)
        assert found.findings[0].verdict == "resolved"
        assert "the noise of teachers and seeds is an unlikely cause" in found.findings[0].sentence
        interval = found.findings[0].evidence.interval
        assert interval is not None
        assert interval.low > 0
        assert found.visible is None
        assert "depends on the variance between teachers" in found.sentence


def test_a_small_difference_under_all_teachers_is_equivalent() -> None:
    table = 0.02 * np.random.default_rng(6).standard_normal((4, 10))
    assert [judged(cells(table), rule).findings[0].verdict for rule in ("fixed", "split")] == ["equivalent"] * 2
    table[0] += 0.5
    assert [judged(cells(table), rule).findings[0].verdict for rule in ("fixed", "split")] == ["undecided"] * 2


def test_equal_teachers_leave_the_test_over_seeds() -> None:
    row = np.random.default_rng(7).standard_normal(8) + 1.5
    found = judged(cells(np.array([row, row, row])), "fixed").findings[0]
    alone = verdicts.family({"tskd": dict(enumerate(row)), "ce": dict.fromkeys(range(8), 0.0)}, [PAIR]).findings[0]
    assert found.holm_p == pytest.approx(alone.holm_p)


def test_the_rule_of_earlier_versions_is_refused() -> None:
    table = cells(np.random.default_rng(8).standard_normal((2, 5)))
    values = {"tskd": table[0], "ce": dict.fromkeys(range(5), 0.0)}
    asked = {"seeds": range(5), "interim": [5], "at": 5, "rule": "obrien_fleming"}
    with pytest.raises(InputError, match=r"compare.sequential: is missing"):
        sequential.analysis(values, [PAIR], crossed={PAIR: table}, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("sds", [(1.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.0, 1.0, 1.0)])
def test_no_difference_is_seldom_resolved(sds: tuple[float, float, float], count: int) -> None:
    random = np.random.default_rng(9)
    for rule, n in (("fixed", 5), ("split", 8)):
        wrong = sum(
            judged(cells(simulated(random, sds, (count, n))), rule).findings[0].verdict == "resolved"
            for _ in range(100)
        )
        assert stats.binom.sf(wrong - 1, 100, 0.05) > 0.001


def test_the_largest_variance_between_teachers_so_far_counts() -> None:
    # Ever closer teachers do not make an earlier variance between them undone.
    table = np.ones((2, 12)) * 0.8 + 0.01 * np.random.default_rng(10).standard_normal((2, 12))
    table[0, :5] += 0.5
    table[1, :5] -= 0.5
    table[0, 5:] -= 0.35
    table[1, 5:] += 0.35
    late = judged(cells(table), "split").findings[0].evidence.p
    half = judged(cells(table[:, 5:]), "split").findings[0].evidence.p
    assert late is not None
    assert half is not None
    assert late > 0.05
    assert Split(5).bound(12, 0.05) > 0
