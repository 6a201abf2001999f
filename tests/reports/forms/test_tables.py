from __future__ import annotations

import json
import math
import random
from dataclasses import replace

import pytest
from rich.console import Console

import factories
from factories import a_cost
from tskd_tune.records.entries.row import Best, PlanRecord, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.records import Statistic
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import report_lines, tables
from tskd_tune.reports.forms.head_lines import teacher_line
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.forms.short import duration
from tskd_tune.reports.forms.words import spread, weight


def a_row(run="t0", seed=1, arm="baseline", test=60.0, val=None, seconds=10.0, review=None, **changes):
    facts = {
        "metrics": {"train_top1": 70.0, "test_top1": test} | ({"val_top1": val} if val is not None else {}),
        "cost": a_cost(seconds),
        "experiment": {"review": review},
        "versions": {"tskd-tune": "0.1.0"},
        "commit": "a" * 40,
    }
    if review:
        facts |= {"lambda_": 1.0, "plan": PlanRecord(memorize=[0, 2, 4], review=[6, 9])}
    return factories.a_row(run, seed, arm, planned=10, **(facts | changes))


@pytest.fixture
def a_run(tmp_path):
    def make(*rows, search=None, expected=None, name="first"):
        document = {"search": search} if search else {}
        folder = RunFolder.create(tmp_path, name, "sweep", document, expected=expected)
        factories.write_rows(folder, rows)
        return folder

    return make


def arms_by_label(found):
    return {arm["arm"]: arm for arm in as_json(found)["arms"]}


class TestSummary:
    def test_mean_and_sample_deviation_over_the_seeds_that_are_done(self, a_run):
        values = [60.0, 61.5, 63.0]
        rows = [a_row(seed=seed, test=value, val=value / 2) for seed, value in enumerate(values)]
        failed = a_row(seed=9, test=1.0, status="failed", reason="the loss is NaN", epochs=2)
        found = summary(a_run(*rows, failed))
        (arm,) = as_json(found)["arms"]
        mean = sum(values) / 3
        assert (arm["n"], arm["mean"]) == (3, pytest.approx(mean))
        assert arm["sd"] == pytest.approx(math.sqrt(sum((value - mean) ** 2 for value in values) / 2))
        assert arm["metrics"]["val_top1"]["mean"] == pytest.approx(mean / 2)
        assert arm["seeds"] == [0, 1, 2, 9]
        assert (arm["failed"], arm["stopped"]) == (1, 0)
        assert as_json(found)["failed"] == [
            {
                "run": "t0",
                "arm": "baseline",
                "epochs": 2,
                "epochs_planned": 10,
                "reason": "the loss is NaN",
                "broke": False,
                "seeds": [9],
                "errors": [],
            }
        ]

    def test_a_warning_names_a_few_of_its_arms(self, a_run):
        rows = [a_row(f"t{i}", arm=f"arm{i}", warnings=["few reviews"]) for i in range(6)]
        assert report_lines.warning_lines(summary(a_run(*rows))) == ["few reviews (arm0; arm1; arm2; arm3 and 2 more)"]

    def test_the_source_of_every_distiller_is_named_once_and_of_every_part(self, a_run):
        parts = {"a": {"name": "at"}, "b": {"name": "ekd"}}
        used = [{"name": "kd"}, {"name": "kd"}, {"name": "combined", "parts": parts}, {"name": "gone.package:Class"}]
        rows = [a_row(f"t{i}", arm=f"arm{i}", experiment={"distiller": distiller}) for i, distiller in enumerate(used)]
        found = summary(a_run(*rows))
        assert [method["name"] for method in as_json(found)["methods"]] == ["kd", "combined", "at", "ekd"]
        assert any(line.startswith("ekd: EKD-style") for line in report_lines.method_lines(found))
        assert "## Methods" in markdown(found)

    def test_one_seed_has_no_deviation(self, a_run):
        (arm,) = as_json(summary(a_run(a_row())))["arms"]
        assert (arm["n"], arm["mean"], arm["sd"]) == (1, 60.0, None)

    def test_a_metric_that_was_not_finite_does_not_count(self, a_run):
        found = summary(a_run(a_row(seed=1), a_row(seed=2, test=float("nan"))))
        assert (as_json(found)["arms"][0]["n"], as_json(found)["arms"][0]["mean"]) == (1, 60.0)

    def test_costs_are_compared_with_the_first_arm_without_a_review(self, a_run):
        rows = [
            a_row("t0", arm="tskd", review={"k": 3}, seconds=15.0),
            a_row("t1", arm="baseline", seconds=10.0),
            a_row("t1", 2, arm="baseline", seconds=14.0),
            a_row("t2", arm="kd", seconds=6.0),
        ]
        found = summary(a_run(*rows))
        assert as_json(found)["baselines"] == [{"arm": "baseline", "why": "the first without a review"}]
        assert [arm["cost_seconds"] for arm in as_json(found)["arms"]] == [15.0, 12.0, 6.0]
        assert [arm["cost_ratio"] for arm in as_json(found)["arms"]] == [1.25, 1.0, 0.5]

    def test_costs_are_compared_with_the_first_arm_where_all_review(self, a_run):
        rows = [a_row(f"t{i}", arm=f"k={i}", review={"k": i}, seconds=10.0 * (i + 1)) for i in range(2)]
        found = summary(a_run(*rows))
        assert as_json(found)["baselines"] == [{"arm": "k=0", "why": "the first"}]
        assert as_json(found)["arms"][1]["cost_ratio"] == 2.0

    def test_costs_are_compared_within_a_student(self, a_run):
        rows = [
            a_row(
                f"{student} {arm}", arm=f"{student}, {arm}", seconds=seconds, experiment={"student": {"name": student}}
            )
            for student, arm, seconds in [("small", "ce", 2.0), ("small", "kd", 3.0), ("large", "ce", 10.0)]
        ]
        found = summary(a_run(*rows))
        assert {arm["arm"]: arm["cost_ratio"] for arm in as_json(found)["arms"]} == {
            "small, ce": 1.0,
            "small, kd": 1.5,
            "large, ce": 1.0,
        }
        (line,) = [line for line in report_lines.notes(found) if line.startswith("Time ratios")]
        assert "arms of one task and student" in line and "'small, ce'" in line and "'large, ce'" in line

    def test_reviews_are_those_within_the_trained_epochs(self, a_run):
        rows = [
            a_row("t0", arm="whole", review={"k": 3}),
            a_row("t1", arm="cut", review={"k": 3}, status="stopped", epochs=7),
            a_row("t2", arm="early", review={"k": 3}, status="stopped", epochs=6),
        ]
        assert [arm["reviews"] for arm in as_json(summary(a_run(*rows)))["arms"]] == [2, 1, 0]

    def test_lambda_is_the_mean_where_each_seed_found_its_own(self, a_run):
        rows = [a_row(seed=seed, review={"k": 3}, lambda_=weight) for seed, weight in ((1, 10.0), (2, 14.0))]
        (arm,) = as_json(summary(a_run(*rows)))["arms"]
        assert arm["lambda"] == {"n": 2, "of": 2, "mean": 12.0, "sd": pytest.approx(math.sqrt(8.0))}

    def test_points_that_share_a_label_are_told_apart(self, a_run):
        rows = [a_row("t0", point={"k": 3}), a_row("t1", point={"k": 6}), a_row("t2", arm="kd")]
        found = summary(a_run(*rows))
        assert [arm["arm"] for arm in as_json(found)["arms"]] == ["baseline (t0)", "baseline (t1)", "kd"]

    def test_the_seeds_of_a_grids_point_are_one_arm_though_each_is_a_trial(self, a_run):
        rows = [a_row("t0", seed=1), a_row("t1", arm="kd", seed=1), a_row("t2", seed=2), a_row("t3", arm="kd", seed=2)]
        found = summary(a_run(*rows))
        assert [(arm["arm"], arm["seeds"], arm["n"]) for arm in as_json(found)["arms"]] == [
            ("baseline", [1, 2], 2),
            ("kd", [1, 2], 2),
        ]

    def test_pedigree_is_collected_once(self, a_run):
        measured = {"test_top1": 72.4}
        teacher = TeacherRecord(name="resnet56", source="auto", key="abc", parameters=861770, metrics=measured)
        rows = [
            a_row("t0", teacher=teacher, warnings=["few reviews"]),
            a_row("t1", arm="tskd", teacher=teacher, warnings=["few reviews"], deviations=["k is 6"]),
            a_row("t2", arm="kd", commit=None),
        ]
        found = summary(a_run(*rows))
        assert as_json(found)["teachers"] == [teacher.plain()]
        assert as_json(found)["warnings"] == [{"sentence": "few reviews", "arms": ["baseline", "tskd"]}]
        assert as_json(found)["settings"] == [
            {"preset": "paper", "deviations": [], "arms": ["baseline", "kd"]},
            {"preset": "paper", "deviations": ["k is 6"], "arms": ["tskd"]},
        ]
        assert as_json(found)["commits"] == ["a" * 40, None]
        assert as_json(found)["versions"] == [{"tskd-tune": "0.1.0"}]

    def test_it_is_plain_data_and_does_not_depend_on_the_order_of_finishing(self, a_run):
        rows = [a_row(f"t{i}", seed, arm=f"arm{i}", test=60.0 + i + seed / 7) for i in range(3) for seed in (1, 2)]
        ordered = summary(a_run(*rows))
        random.Random(0).shuffle(rows)
        shuffled = summary(a_run(*rows, name="second"))
        same = {"run": "x", "created": "x"}
        assert json.dumps(as_json(ordered) | same) == json.dumps(as_json(shuffled) | same)

    def test_a_torn_row_is_told(self, a_run):
        run = a_run(a_row("t0"), a_row("t1", arm="kd"))
        run.rows_path.write_text(run.rows_path.read_text()[:-9])
        with pytest.warns(UserWarning, match="torn"):
            found = summary(run)
        assert len(as_json(found)["arms"]) == 1
        assert "the last line is incomplete" in markdown(found)


SEARCH = {"name": "optuna", "metric": "val_top1", "mode": "max"}


class TestSearch:
    def rows(self):
        values = [("t0", 3, 50.0, 99.0), ("t1", 6, 55.0, 10.0), ("t2", 9, 52.0, 50.0)]
        return [
            a_row(run, arm=f"k={k}", point={"review.tskd.k": k, "review.tskd.lambda": k / 7}, val=val, test=test)
            for run, k, val, test in values
        ]

    def test_points_are_sorted_by_the_searched_metric_and_never_by_the_test(self, a_run):
        found = summary(a_run(*self.rows(), search=SEARCH))
        assert as_json(found)["headline"] == "val_top1"
        assert [(arm["run"], arm["mean"]) for arm in as_json(found)["arms"]] == [
            ("t1", 55.0),
            ("t2", 52.0),
            ("t0", 50.0),
        ]

    def test_the_mode_turns_the_order(self, a_run):
        found = summary(a_run(*self.rows(), search=SEARCH | {"mode": "min"}))
        assert [arm["run"] for arm in as_json(found)["arms"]] == ["t0", "t2", "t1"]

    def test_stopped_points_come_last_the_longest_trained_first(self, a_run):
        stopped = [
            a_row("s0", arm="a", val=90.0, status="stopped", epochs=2),
            a_row("s1", arm="b", val=40.0, status="stopped", epochs=5),
            a_row("s2", arm="c", val=45.0, status="stopped", epochs=5),
        ]
        found = summary(a_run(*stopped, *self.rows(), search=SEARCH))
        assert [arm["run"] for arm in as_json(found)["arms"]] == ["t1", "t2", "t0", "s2", "s1", "s0"]
        assert arms_by_label(found)["a"]["mean"] is None
        assert (
            tables.ended_early(next(arm for arm in found.arms if arm.arm == "a")) == "1 stopped after 2 epochs at 90.00"
        )

    def test_sampled_values_are_columns_with_short_titles(self, a_run):
        shown, rows = tables.cells(summary(a_run(*self.rows(), search=SEARCH)))
        titles = [column.title for column in shown]
        assert titles[:5] == ["trial", "k", "lambda", "val top-1 (%), last epoch", "test top-1 (%), last epoch"]
        assert "λ" not in titles
        assert rows[0][:4] == ["t1", "6", "0.8571", "55.00 (one seed, no standard deviation)"]

    def test_holes_whose_last_part_is_shared_keep_their_path(self, a_run):
        row = a_row(point={"review.a.k": 1, "review.b.k": None, "lr": 0.1})
        shown, rows = tables.cells(summary(a_run(row, search=SEARCH)))
        assert [column.title for column in shown][1:4] == ["lr", "review.a.k", "review.b.k"]
        assert rows[0][1:4] == ["0.1", "1", "—"]

    def test_a_grid_is_no_search(self, a_run):
        found = summary(a_run(*self.rows(), search={"name": "grid"}))
        assert (as_json(found)["search"], as_json(found)["headline"]) == (None, "test_top1")
        assert [arm["run"] for arm in as_json(found)["arms"]] == ["t0", "t1", "t2"]


class TestWords:
    @pytest.mark.parametrize(
        ("statistic", "text"),
        [
            (Statistic(0, 0, None, None), "—"),
            (Statistic(1, 1, 71.2, None), "71.20 (one seed, no standard deviation)"),
            (Statistic(5, 5, 71.204, 0.306), "71.20 ± 0.31 (5 seeds)"),
            (Statistic(2, 2, 1.0, 0.0), "1.00 ± 0.00 (2 seeds)"),
        ],
    )
    def test_a_number_never_hides_its_seeds(self, statistic, text):
        assert spread(statistic) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(None, "—"), (9.96, "10.0 s"), (59.0, "59.0 s"), (90.0, "1.5 min"), (5400.0, "1.5 h")]
    )
    def test_durations(self, seconds, text):
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("rows", "expected", "text"),
        [
            (0, 18, "0 of 18 runs finished"),
            (1, 1, "1 of 1 run finished"),
            (3, 18, "3 of 18 runs finished, 1 failed and 1 stopped"),
            (3, None, "3 runs finished, 1 failed and 1 stopped"),
        ],
    )
    def test_progress(self, a_run, rows, expected, text):
        states = ["done", "failed", "stopped"]
        made = [a_row(seed=seed, status=states[seed]) for seed in range(rows)]
        assert summary(a_run(*made, expected=expected)).runs.sentence == text

    def test_weights(self):
        assert weight(Statistic(2, 2, 12.345, 0.26)) == "12.3 ± 0.26"
        assert weight(Statistic(2, 2, 1.0, 0.0)) == "1"
        assert weight(Statistic(0, 0, None, None)) == "—"

    def test_a_teacher_that_was_given(self):
        teacher = TeacherRecord(name="resnet56", source="weights/r56.pth")
        assert teacher_line(teacher) == "Teacher resnet56: accuracy not measured (weights/r56.pth)."


class TestTables:
    def rows(self):
        best = {
            "best": [
                Best.of(2, "validation", "top1", 59.0, {"test_top1": 61.5}),
                Best.of(3, "test", "top1", 64.0),
            ],
        }
        return [
            a_row("t0", 1, test=60.0, val=58.0, **best),
            a_row("t0", 2, test=62.0, val=59.0, **best),
            a_row("t1", 1, arm="tskd|<b>_x_", test=63.0, val=60.0, review={"k": 3}, seconds=15.0),
            a_row("t1", 2, arm="tskd|<b>_x_", status="failed", epochs=1, reason="the loss is NaN; lower lambda"),
            a_row("t1", 3, arm="tskd|<b>_x_", status="failed", epochs=1, reason="the loss is NaN; lower lambda"),
        ]

    def test_a_confirmation_says_of_what(self, a_run):
        found = replace(summary(a_run(*self.rows())), confirms="first_search")
        assert (
            markdown(found)
            .splitlines()[2]
            .endswith("This run trains the winners of 'first\\_search' again, with seeds that did not choose them.")
        )

    def test_an_epoch_that_only_some_seeds_know_the_test_accuracy_of_has_no_column(self, a_run):
        """Where the test part is read once, the best validation epoch is the last one by luck."""
        lucky = Best.of(9, "validation", "top1", 59.0, {"test_top1": 61.5})
        rows = [a_row("t0", 1, best=[lucky]), a_row("t0", 2)]
        assert "best validation epoch" not in markdown(summary(a_run(*rows)))

    def test_a_grid_that_never_read_the_test_part_is_compared_on_the_validation_part(self, a_run):
        rows = [a_row("t0", seed, metrics={"val_top1": 60.0 + seed}) for seed in (1, 2)]
        found = summary(a_run(*rows))
        assert as_json(found)["headline"] == "val_top1" and as_json(found)["arms"][0]["mean"] == 61.5
        assert "test top-1" not in markdown(found)

    def test_markdown(self, a_run):
        found = summary(a_run(*self.rows(), expected=6))
        text = markdown(found)
        lines = text.splitlines()
        assert lines[:4] == ["# first", "", "5 of 6 runs finished, 2 failed.", ""]
        assert lines[4:7] == ["- 10 epochs; 2 arms, 3 seeds (1 to 3).", "- Trained on cpu, 1 thread.", ""]
        lines = lines[lines.index("## Verdicts") :]
        assert lines[2] == (
            "- 'tskd\\|&lt;b&gt;\\_x\\_' against 'baseline': +3.00 points (1 seed, paired; seed 2 only in 'baseline', "
            "not counted). No verdict."
        )
        assert lines[4].endswith(
            "2, 3 failed; not counted in any comparison, and each verdict must stand in the worst case."
        )
        assert lines[5] == "- A verdict needs 5 common seeds; until then this is a smoke run."
        table = lines[lines.index("## Arms") + 2 :]
        assert table[0] == (
            "| arm | test top-1 (%), last epoch | 95 % interval | val top-1 (%), last epoch "
            "| test top-1 (%), best validation epoch | test top-1 (%), best test epoch † "
            "| reviews | λ | time per run | time ratio | ended early |"
        )
        # Student's t of two values 60 and 62: 61 ± 12.706 x 1.
        assert table[2] == (
            "| baseline | 61.00 ± 1.41 (2 seeds) | 48.29 to 73.71 | 58.50 ± 0.71 (2 seeds) | 61.50 ± 0.00 (2 seeds) "
            "| 64.00 ± 0.00 (2 seeds) | 0 | — | 10.0 s | 1.00 |  |"
        )
        assert table[3] == (
            "| tskd\\|&lt;b&gt;\\_x\\_ | 63.00 (one of 3 seeds, no standard deviation) | — | 60.00 (one of 3 seeds,"
            " no standard deviation) | — | — | 2 | 1 | 15.0 s | 1.50 | 2 failed |"
        )
        assert table[5].startswith("- No comparison has two common seeds, so the smallest difference")
        assert table[6].startswith("- One seed: no standard deviation and no interval can be given (tskd")
        assert "† chosen on the test set" in text
        assert "seeds 2, 3 (trial t1) failed after 1 of 10 epochs: the loss is NaN; lower lambda" in text
        assert "<b>" not in text
        assert markdown(found) == text

    def test_what_nobody_measured_or_needs_is_no_column(self, a_run):
        shown, _ = tables.cells(summary(a_run(a_row())))
        assert [column.title for column in shown] == [
            "arm",
            "test top-1 (%), last epoch",
            "reviews",
            "λ",
            "time per run",
            "time ratio",
        ]

    def test_nothing_yet(self, a_run):
        text = markdown(summary(a_run(expected=18)))
        assert text == "# first\n\n0 of 18 runs finished.\n\nNo run has finished yet.\n"

    def test_rich(self, a_run):
        console = Console(width=260, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
        console.print(tables.rich_table(summary(a_run(*self.rows(), expected=6))))
        text = console.export_text()
        assert "first: 5 of 6 runs finished, 2 failed" in text
        assert "tskd|<b>_x_" in text
        assert "63.00 (one of 3 seeds, no standard deviation)" in text
        assert "2 failed" in text

    def test_the_words_of_significance_stay_out(self, a_run):
        text = markdown(summary(a_run(*self.rows()))).lower()
        assert not any(word in text for word in ("significan", "p-value", "better", "wins", "confidence"))
