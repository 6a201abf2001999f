"""An arm is not told apart from itself more often than promised: real trainings, and the arithmetic around them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scipy import stats
from typer.testing import CliRunner

from benchmarks import calibration
from benchmarks.__main__ import app
from benchmarks.arm import Arm
from benchmarks.calibration import AGAIN, METRIC, A
from factories import a_row
from tskd_tune.errors import RunError
from tskd_tune.records.entries.row import Row
from tskd_tune.records.sessions.session import Trial
from tskd_tune.training.teachers import CACHE_VARIABLE

TABLES, SEEDS = 40, 5


def rows_of(number: int, values: Mapping[str, Sequence[float]]) -> list[Row]:
    """Rows of one made-up table, seeds counted on from the first name to the second."""
    flat = [(name, value) for name, found in values.items() for value in found]
    experiment = {"task": {"name": "digits"}, "student": {"name": "resnet8"}, "review": None}
    known = {"versions": {}, "commit": None, "experiment": experiment}
    return [
        a_row(str(number), 100 * number + index, name, planned=1, metrics={METRIC: value}, **known)
        for index, (name, value) in enumerate(flat)
    ]


APART = rows_of(0, {A: [50.0, 51.0, 52.0, 53.0, 54.0], AGAIN: [60.5, 61.0, 62.0, 63.0, 64.5]})
ALIKE = rows_of(1, {A: [50.0, 50.1, 50.2, 50.1, 50.0], AGAIN: [50.1, 50.1, 50.2, 50.0, 50.1]})
VAGUE = rows_of(2, {A: [50.0, 54.0, 46.0, 58.0, 42.0], AGAIN: [47.0, 51.0, 55.0, 43.0, 60.0]})


class TestDeal:
    def test_no_seed_is_dealt_twice(self) -> None:
        dealt = calibration.deal(7, 5)
        seeds = [seed for table in dealt for found in table.values() for seed in found]
        assert [list(table) for table in dealt] == [[A, AGAIN]] * 7
        assert {len(found) for table in dealt for found in table.values()} == {5}
        assert len(seeds) == len(set(seeds)) == 70


class TestTraining:
    def test_a_seed_gives_the_same_whatever_was_trained_before_it(self) -> None:
        plain = calibration.document(Arm.PLAIN)
        before, after = calibration.trainings(plain, [{A: [3], AGAIN: [4]}])
        alone = calibration.train({**plain, "seed": 4}, None, Trial("0", AGAIN))
        assert (before.run, before.arm, before.seed) == ("0", A, 3)
        assert (after.run, after.arm, after.seed) == ("0", AGAIN, 4)
        assert alone.metrics == after.metrics != before.metrics

    def test_a_training_that_fails_is_not_left_out_in_silence(self) -> None:
        plain = calibration.document(Arm.PLAIN)
        wild = {**plain, "training": {**plain["training"], "lr": 1e30}}
        with pytest.raises(RunError, match="calibration: seed 3 of 'a' failed: epoch 0: the loss is not finite"):
            list(calibration.trainings(wild, [{A: [3]}]))

    def test_only_one_of_the_arms_reviews(self) -> None:
        assert calibration.document(Arm.PLAIN)["review"] is None
        assert calibration.document(Arm.TSKD)["review"]["k"] == 2


class TestJudging:
    def test_a_table_is_judged_by_welchs_test_as_its_seeds_are_disjoint(self) -> None:
        found = calibration.judge(APART, margin=0.3)
        one, two = found.values[A], found.values[AGAIN]
        assert (list(one), list(two)) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
        assert found.difference == pytest.approx(62.2 - 52.0)
        assert found.p == pytest.approx(stats.ttest_ind(list(two.values()), list(one.values()), equal_var=False).pvalue)
        assert found.verdict == "resolved"
        assert "5 seeds per arm, unpaired: no seed is shared" in found.sentence

    def test_the_margin_is_that_of_the_call(self) -> None:
        assert [calibration.judge(ALIKE, margin).verdict for margin in (0.3, 0.01)] == ["equivalent", "undecided"]

    def test_a_planted_difference_moves_the_second_name_only(self) -> None:
        before, after = (calibration.judge(rows, 0.3) for rows in (VAGUE, calibration.planted(VAGUE, 40.0)))
        assert after.values[A] == before.values[A]
        assert after.difference == pytest.approx(before.difference + 40.0)
        assert (before.verdict, after.verdict) == ("undecided", "resolved")


class TestCounting:
    @pytest.mark.parametrize(("found", "of"), [(0, 60), (3, 60), (60, 60)])
    def test_the_interval_is_clopper_and_pearsons(self, found: int, of: int) -> None:
        one = calibration.share(found, of)
        low = stats.beta.ppf(0.025, found, of - found + 1) if found else 0.0
        high = stats.beta.ppf(0.975, found + 1, of - found) if found < of else 1.0
        assert (one.low, one.high) == pytest.approx((low, high))

    def test_a_share_in_words(self) -> None:
        assert str(calibration.share(3, 60)) == "5.0 % (3 of 60; 95 % interval 1.0 to 13.9 %)"

    def test_verdicts_of_three_tables(self) -> None:
        tables = calibration.gathered([*APART, *ALIKE, *VAGUE])
        assert tables == [APART, ALIKE, VAGUE]
        found = calibration.figures(tables, margin=0.3, seconds=6.0)
        assert (found.tables, found.seeds, found.seconds) == (3, 5, 6.0)
        assert (found.resolved.found, found.equivalent.found, found.with_difference.found) == (1, 1, 3)
        assert found.sd == pytest.approx(stats.tstd([row.metrics[METRIC] for table in tables for row in table]))


@pytest.fixture(scope="module")
def tables(teacher_cache: Path) -> list[list[Row]]:
    """Four hundred students, each with reviews under one teacher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(teacher_cache))
        dealt = calibration.deal(TABLES, SEEDS)
        return calibration.gathered(list(calibration.trainings(calibration.document(Arm.TSKD), dealt)))


@pytest.fixture(scope="module")
def found(tables: list[list[Row]]) -> calibration.Figures:
    return calibration.figures(tables, margin=0.3, seconds=0.0)


@pytest.mark.long
class TestRealTrainings:
    def test_an_arm_is_told_apart_from_itself_in_at_most_five_percent(self, found: calibration.Figures) -> None:
        assert found.resolved.of == TABLES
        assert found.resolved.low <= 0.05

    def test_that_is_not_for_want_of_noise_or_of_tests(self, tables: list[list[Row]]) -> None:
        rows = [row for table in tables for row in table]
        values = [row.metrics[METRIC] for row in rows]
        assert len({row.seed for row in rows}) == len(rows) == 2 * SEEDS * TABLES
        assert all(row.plan.review and row.lambda_ for row in rows)
        # One image of 597 is 0.17 points.
        assert stats.tstd(values) > 1.0
        p_values = [judged.p for table in tables if (judged := calibration.judge(table, 0.3)).p is not None]
        assert len(p_values) == TABLES
        # With nothing to find, p values lie evenly between 0 and 1.
        assert stats.kstest(p_values, "uniform").pvalue > 0.001

    def test_a_planted_difference_is_found_in_the_same_trainings(self, found: calibration.Figures) -> None:
        assert found.with_difference.found >= 0.95 * TABLES

    def test_the_last_seed_gives_the_same_alone(self, tables: list[list[Row]]) -> None:
        last = tables[-1][-1]
        tskd = calibration.document(Arm.TSKD)
        (alone,) = calibration.trainings(tskd, [{AGAIN: [last.seed]}])
        assert alone.metrics == last.metrics and alone.lambda_ == last.lambda_


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_its_figures(tmp_path: Path) -> None:
    words = ["calibration", "--tables", "2", "--arm", "plain", "--margin", "50", "--json", str(tmp_path / "rate.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "resolved, which is wrong" in result.output and "equivalent within ±50 points" in result.output
    written = json.loads((tmp_path / "rate.json").read_text())
    assert (written["arm"], written["tables"], written["seeds"], written["margin"]) == ("plain", 2, 5, 50.0)
    assert written["equivalent"]["found"] == 2
    assert [list(one["values"]) for one in written["judged"]] == [[A, AGAIN]] * 2
