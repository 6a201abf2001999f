"""Which arms are compared, what of them counts, and what a run that is not whole says."""

from __future__ import annotations

import json

import pytest
from scipy import stats

import factories
from tskd_tune.errors import InputError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import report_lines
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.judge.always_valid import Split
from tskd_tune.reports.judge.obrien_fleming import obrien_fleming
from tskd_tune.reports.page.report import html

BASE = [70.1, 70.4, 69.8, 70.0, 70.3, 70.2, 69.9]
BETTER = [71.0, 71.5, 70.9, 70.8, 71.4, 71.3, 70.7]
KD, AT = [0.5, 0.9, 0.4, 0.7, 0.6, 0.8, 0.2], [1.0, 1.4, 0.8, 1.1, 1.3, 0.9, 1.2]
SAME = [70.12, 70.38, 69.83, 69.97, 70.31, 70.18, 69.92]


def a_row(arm, seed, test, *, review=None, task="digits", student="resnet8", **changes):
    facts = {
        "metrics": {"test_top1": test},
        "experiment": {"task": {"name": task}, "student": {"name": student}, "review": review},
        "versions": {"tskd-tune": "0.1.0"},
        "commit": None,
    }
    return factories.a_row(f"{arm}-{seed}", seed, arm, **(facts | changes))


def an_arm(arm, values, **changes):
    return [a_row(arm, seed, value, **changes) for seed, value in enumerate(values, 1)]


@pytest.fixture
def a_run(tmp_path):
    def make(*arms, compare=None, seeds=None, expected=None, kind="sweep", search="grid"):
        document = {"search": {"name": search}, "seeds": seeds} | ({"compare": compare} if compare else {})
        name = f"again-{len(list(tmp_path.iterdir()))}" if (tmp_path / "first").exists() else "first"
        folder = RunFolder.create(tmp_path, name, kind, document, expected=expected)
        # A run's arms stand in the order of its trials.
        factories.write_rows(
            folder,
            [row.model_copy(update={"run": f"{place}-{row.run}"}) for place, rows in enumerate(arms) for row in rows],
        )
        return folder

    return make


def contrasts(found):
    return [(item["contrast"]["arm"], item["contrast"]["baseline"]) for item in as_json(found)["family"]["findings"]]


def verdicts(found):
    return {item["contrast"]["arm"]: item["verdict"] for item in as_json(found)["family"]["findings"]}


class TestWhoIsCompared:
    def test_every_arm_with_the_first_without_a_review(self, a_run):
        arms = [an_arm("tskd", BETTER, review={"k": 3}), an_arm("ce", BASE), an_arm("kd", SAME)]
        found = summary(a_run(*arms))
        assert contrasts(found) == [("tskd", "ce"), ("kd", "ce")]
        assert (
            as_json(found)["family"]["declared"] == "Every arm is compared with the first arm without a review: 'ce'."
        )

    def test_within_a_task_and_student_and_one_family_over_all(self, a_run):
        arms = [
            an_arm(f"{student} {arm}", values, student=student)
            for student in ("small", "large")
            for arm, values in (("ce", BASE), ("kd", BETTER))
        ]
        found = summary(a_run(*arms))
        assert contrasts(found) == [("small kd", "small ce"), ("large kd", "large ce")]
        assert {item["family_size"] for item in as_json(found)["family"]["findings"]} == {2}

    def test_the_baseline_that_the_sweep_names(self, a_run):
        run = a_run(an_arm("ce", BASE), an_arm("kd", SAME), an_arm("at", BETTER), compare={"baseline": "kd"})
        assert contrasts(summary(run)) == [("ce", "kd"), ("at", "kd")]

    def test_the_pairs_that_the_sweep_names_count_before_they_have_run(self, a_run):
        run = a_run(an_arm("ce", BASE), an_arm("kd", BETTER), compare={"pairs": [["kd", "ce"], ["late", "ce"]]})
        found = summary(run)
        assert contrasts(found) == [("kd", "ce"), ("late", "ce")]
        assert "no seed has finished in both arms" in as_json(found)["family"]["findings"][1]["sentence"]
        p = stats.ttest_rel(BETTER, BASE).pvalue
        assert as_json(found)["family"]["findings"][0]["holm_p"] == pytest.approx(2 * p, rel=1e-9)

    def test_the_margin_that_the_sweep_names(self, a_run):
        arms = an_arm("ce", BASE), an_arm("kd", SAME)
        assert verdicts(summary(a_run(*arms, compare={"margin": 0.001})))["kd"] == "undecided"

    @pytest.mark.parametrize(
        ("made", "reason"),
        [
            ({}, "No run has finished yet"),
            ({"arms": ["ce"]}, "One arm"),
            ({"arms": ["ce"], "kind": "train"}, "A single training"),
            ({"arms": ["ce", "kd"], "search": "random"}, "confirm the best trials on fresh seeds"),
            ({"arms": ["ce", "kd"], "compare": {"baseline": "late"}}, "'late' has no finished run yet"),
        ],
    )
    def test_why_nothing_is_compared(self, a_run, made, reason):
        arms = [an_arm(arm, BASE) for arm in made.pop("arms", [])]
        found = summary(a_run(*arms, **made))
        assert as_json(found)["family"] is None and reason in as_json(found)["family_reason"]

    def test_arms_without_a_common_task_and_student(self, a_run):
        found = summary(a_run(an_arm("a", BASE, task="x"), an_arm("b", BASE, task="y")))
        assert as_json(found)["family"] is None and "No two arms share" in as_json(found)["family_reason"]


class TestWhatCounts:
    def test_verdicts_are_the_paired_tests_over_common_seeds(self, a_run):
        found = summary(a_run(an_arm("ce", BASE), an_arm("better", BETTER), an_arm("same", SAME)))
        assert verdicts(found) == {"better": "resolved", "same": "equivalent"}
        first = as_json(found)["family"]["findings"][0]
        assert first["contrast"]["t_p"] == pytest.approx(stats.ttest_rel(BETTER, BASE).pvalue, rel=1e-9)
        interval = as_json(found)["arms"][0]["statistics"]["interval"]
        half = stats.t.ppf(0.975, 6) * stats.sem(BASE)
        assert interval["high"] - interval["low"] == pytest.approx(2 * half)
        assert json.dumps(as_json(found), allow_nan=False)

    def test_failed_stopped_and_lost_seeds_are_said_and_do_not_count(self, a_run):
        kd = [
            *an_arm("kd", BETTER[:4]),
            a_row("kd", 5, 1.0, status="failed", reason="NaN"),
            a_row("kd", 6, 1.0, status="stopped", reason="slow"),
            a_row("kd", 7, None),
        ]
        found = summary(a_run(an_arm("ce", BASE), kd))
        assert as_json(found)["family"]["notes"][1] == (
            "'kd': seed 5 failed and seed 6 stopped early and seed 7 gave no finite value;"
            " not counted in any comparison, and each verdict must stand in the worst case."
        )
        contrast = as_json(found)["family"]["findings"][0]["contrast"]
        assert (contrast["n"], contrast["only_baseline"]) == (4, [5, 6, 7])
        assert verdicts(found) == {"kd": None}
        assert "seeds 5, 6, 7 only in 'ce', not counted" in markdown(found)

    def test_one_seed_has_no_interval_and_no_verdict(self, a_run):
        found = summary(a_run(an_arm("ce", BASE[:1]), an_arm("kd", BETTER[:1])))
        text = markdown(found)
        assert "No verdict" in text and "smoke" in text
        assert "95 % interval" not in text
        assert "One seed: no standard deviation and no interval can be given (ce; kd)." in text

    def test_below_five_seeds_no_word_of_a_verdict(self, a_run):
        text = markdown(summary(a_run(an_arm("ce", BASE[:4]), an_arm("kd", BETTER[:4])))).lower()
        assert "95 % interval" in text and "smoke" in text
        assert not any(word in text for word in ("significan", "resolved", "equivalent", "undecided", "p =", "p <"))

    def test_the_same_bits_are_recognized(self, a_run):
        found = summary(a_run(an_arm("ce", BASE), an_arm("twin", BASE)))
        assert "the same value in every seed" in as_json(found)["family"]["findings"][0]["sentence"]

    def test_disjoint_seeds_are_compared_unpaired(self, a_run):
        other = [a_row("again", seed + 100, value) for seed, value in enumerate(SAME)]
        (finding,) = as_json(summary(a_run(an_arm("ce", BASE), other)))["family"]["findings"]
        assert not finding["contrast"]["paired"] and "unpaired" in finding["sentence"]

    def test_the_smallest_visible_difference_stands_under_the_table(self, a_run):
        found = summary(a_run(an_arm("ce", BASE), an_arm("kd", BETTER)))
        assert report_lines.under_table(found)[0].startswith("This design detects differences of ")
        lines = markdown(found).splitlines()
        assert lines.index("## Verdicts") < lines.index("## Arms")


LOOKS = {"interim": [5, 7]}


class TestLooks:
    def run(self, a_run, count, values=SAME):
        arms = an_arm("ce", BASE[:count]), an_arm("kd", values[:count])
        return summary(a_run(*arms, compare=LOOKS, seeds=[1, 2, 3, 4, 5, 6, 7], expected=14))

    def test_before_the_first_nothing_is_compared(self, a_run):
        found = self.run(a_run, 4)
        assert as_json(found)["family"] is None
        assert as_json(found)["family_reason"].startswith("The first interim analysis is at 5 seeds, and 4 have ended")

    def test_at_an_analysis_its_boundary_is_held(self, a_run):
        found = self.run(a_run, 5, BETTER)
        interim, finding = as_json(found)["family"]["interim"], as_json(found)["family"]["findings"][0]
        assert (interim["at"], interim["number"], interim["complete"]) == (5, 1, 5)
        level = 1 - obrien_fleming([5, 7]).nominal[0]
        assert finding["evidence"]["interval"]["level"] == pytest.approx(level)

    def test_between_analyses_the_new_seeds_are_not_read(self, a_run):
        undecided = [71.0, 69.0, 71.0, 69.0, 71.0, 99.0, 99.0]
        found = self.run(a_run, 6, undecided)
        interim, finding = as_json(found)["family"]["interim"], as_json(found)["family"]["findings"][0]
        assert (interim["at"], interim["complete"], interim["next"], interim["stop"]) == (5, 6, 7, False)
        assert finding["contrast"]["n"] == 5 and finding["verdict"] == "undecided"
        assert "6 seeds have ended in every arm; the next interim analysis is at 7 seeds" in found.family.notes[1]

    def test_an_arm_without_a_row_holds_the_analysis_up(self, a_run):
        arms = an_arm("ce", BASE), an_arm("kd", SAME)
        run = a_run(*arms, compare=LOOKS, seeds=[1, 2, 3, 4, 5, 6, 7], expected=21)
        assert "and 0 have ended in every arm" in as_json(summary(run))["family_reason"]


class TestRunsThatAreNotWhole:
    def test_one_that_still_runs_is_not_final(self, a_run):
        found = summary(a_run(an_arm("ce", BASE), an_arm("kd", BETTER), expected=21))
        assert "14 of 21 runs have ended: nothing here is final." in markdown(found)

    def test_a_row_that_is_being_written_is_left_out_and_said(self, a_run):
        run = a_run(an_arm("ce", BASE), an_arm("kd", BETTER), expected=14)
        run.rows_path.write_text(run.rows_path.read_text()[:-20])
        with pytest.warns(UserWarning, match="incomplete"):
            found = summary(run)
        assert as_json(found)["family"]["findings"][0]["contrast"]["n"] == 6
        assert "the last line is incomplete" in markdown(found)

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(InputError, match="is empty; give the path or the name of a run"):
            RunFolder.open(tmp_path)

    def test_a_run_of_another_version(self, a_run):
        run = a_run(an_arm("ce", BASE))
        state = run.path / "state.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"format": 99}))
        with pytest.raises(InputError, match=r"has format 99, this version reads .*; open it with the version"):
            RunFolder.open(run.path)

    def test_rows_of_another_version(self, a_run):
        run = a_run(an_arm("ce", BASE))
        run.rows_path.write_text(json.dumps(a_row("ce", 1, 70.0).plain() | {"format": 99}) + "\n")
        with pytest.warns(UserWarning, match="has format 99, but this version reads formats up to 2"):
            found = summary(run)
        assert "has format 99" in as_json(found)["damage"][0] and as_json(found)["arms"] == []

    def test_the_same_rows_give_the_same_bytes(self, a_run, tmp_path):
        run = a_run(an_arm("ce", BASE), an_arm("kd", BETTER))
        first = markdown(summary(run))
        factories.write_rows(run, reversed(run.rows()))
        assert markdown(summary(RunFolder.open(run.path))) == first


class TestAddedSeeds:
    def found(self, a_run, *portions, seeds=7, sequential="fixed", values=BETTER, lacking=()):
        arms = an_arm("ce", BASE[:seeds]), [row for row in an_arm("tskd", values[:seeds]) if row.seed not in lacking]
        compare = {"added": list(portions), "sequential": sequential}
        self.run = a_run(*arms, compare=compare, seeds=list(range(1, seeds + 1)), expected=2 * seeds)
        return summary(self.run)

    def test_a_fixed_run_that_was_extended_is_exploratory_in_its_first_line_and_its_verdicts(self, a_run):
        for sequential in ("fixed", None):
            found = self.found(a_run, [6, 7], sequential=sequential)
            first = head_lines(found)[0]
            assert first.startswith(
                "The verdicts are exploratory: the run declared one test of a fixed number of seeds, and seeds 6, 7"
                " were added when 5 had a verdict."
            )
            assert first == found.family.notes[0] == as_json(found)["family"]["exploratory"]
            (finding,) = found.family.family.findings
            assert "Resolved (exploratory): 'tskd' is better by" in finding.sentence and finding.exploratory
        assert "resolved (exploratory)</span>" in html(self.run, found)
        (note,) = [note for note in self.found(a_run, [4, 5, 6], [7]).family.notes if "exploratory" in note]
        assert "seed 7 was added when 6 had a verdict" in note

    def test_below_five_seeds_there_was_nothing_to_read(self, a_run):
        assert self.found(a_run, [4, 5], seeds=5).family.family.exploratory == ""

    def test_a_split_run_may_be_extended(self, a_run):
        first = self.found(a_run, seeds=5, sequential="split")
        p = stats.ttest_rel(BETTER[:5], BASE[:5]).pvalue
        assert first.family.family.findings[0].holm_p == pytest.approx(p / 0.6, rel=1e-6)
        later = self.found(a_run, [6, 7], sequential="split")
        assert (
            "Seeds may be added at any time, with `tskd-tune extend`" in later.family.notes[1]
            and not later.family.family.exploratory
        )
        (finding,) = later.family.family.findings
        path = [(n, stats.ttest_rel(BETTER[:n], BASE[:n]).statistic) for n in (5, 6, 7)]
        assert finding.holm_p == pytest.approx(Split(5).p(path))
        assert "paired t test, a single comparison, valid when seeds are added: p" in finding.sentence
        assert "One test of these seeds, without further seeds, would detect" in later.family.family.sentence

    def test_before_its_first_verdict_a_split_run_has_none(self, a_run):
        found = self.found(a_run, sequential="split", lacking=(6,))
        (finding,) = found.family.family.findings
        assert (finding.verdict, finding.evidence.p, finding.contrast.n) == (None, None, 6)
        assert finding.sentence.endswith(
            "No verdict: the first verdict is at 7 seeds, and 6 of these have ended in both arms."
        )
        assert "no verdict yet</span>" in html(self.run, found)

    def test_the_margin_rule(self, a_run):
        arms = an_arm("ce", BASE), an_arm("kd", SAME), an_arm("tskd", BETTER)
        compare = {"rule": "margin", "sequential": "split", "margin": 0.3}
        found = summary(a_run(*arms, compare=compare, seeds=[1, 2, 3, 4, 5, 6, 7]))
        assert verdicts(found) == {"kd": "equivalent", "tskd": "relevantly better"}
        worse = summary(a_run(*arms, compare={**compare, "baseline": "tskd"}, seeds=[1, 2, 3, 4, 5, 6, 7]))
        assert verdicts(worse) == {"ce": "relevantly worse", "kd": "relevantly worse"}


class TestControls:
    ARMS = (
        ("ce", BASE, None),
        ("tskd", BETTER, {"k": 3}),
        ("control_zeros", SAME, {"k": 3}),
        ("control_ce_kl", AT, None),
    )

    def found(self, a_run, *names, **compare):
        controls = {"control_zeros": "tskd", "control_ce_kl": "tskd"}
        arms = [an_arm(arm, values, review=review) for arm, values, review in self.ARMS if not names or arm in names]
        return summary(a_run(*arms, compare={"controls": controls, **compare}))

    def test_an_arm_is_compared_with_its_controls_and_they_with_nothing_else(self, a_run):
        found = self.found(a_run)
        assert contrasts(found) == [("tskd", "ce"), ("tskd", "control_zeros"), ("tskd", "control_ce_kl")]
        assert as_json(found)["family"]["declared"] == (
            "Every arm is compared with the first arm without a review: 'ce'. 'tskd' is compared with its controls."
        )

    def test_a_control_without_a_review_is_no_baseline(self, a_run):
        found = self.found(a_run, "tskd", "control_ce_kl")
        assert contrasts(found) == [("tskd", "control_ce_kl")]
        assert as_json(found)["family"]["declared"] == "'tskd' is compared with its controls."

    def test_pairs_that_were_declared_stay_as_they_are(self, a_run):
        assert contrasts(self.found(a_run, pairs=[["control_zeros", "ce"]])) == [("control_zeros", "ce")]


class TestOneMethodOverPairs:
    def arms(self):
        """Two pairs, by arms within arms, with the baseline first in each."""
        return [
            an_arm(f"{pair}, {arm}", [base + gain for base, gain in zip(BASE, gains, strict=True)], student=student)
            for pair, student, kd in (("r56_r20", "resnet20", KD), ("r110_r32", "resnet32", KD[::-1]))
            for arm, gains in (("ce", [0.0] * 7), ("kd", kd), ("at", AT))
        ]

    def test_a_method_is_known_by_the_part_of_its_label_that_does_not_name_the_pair(self, a_run):
        found = summary(a_run(*self.arms()))
        pooled_ones = as_json(found)["family"]["pooled"]
        assert [one["method"] for one in pooled_ones] == ["'kd' against 'ce'", "'at' against 'ce'"]
        assert pooled_ones[0]["contrasts"] == [["r56_r20, kd", "r56_r20, ce"], ["r110_r32, kd", "r110_r32, ce"]]
        # The family is what it was: every contrast of both pairs.
        assert [one["family_size"] for one in as_json(found)["family"]["findings"]] == [4] * 4
        text = markdown(found)
        assert "## Over the pairs of teacher and student" in text and "and have no verdict of their own" in text

    def test_a_single_pair_has_no_such_section(self, a_run):
        found = summary(a_run(*self.arms()[:3]))
        assert as_json(found)["family"]["pooled"] == [] and "Over the pairs" not in markdown(found)

    def test_interim_analyses_are_not_pooled(self, a_run):
        found = summary(a_run(*self.arms(), compare={"interim": [5, 7]}, seeds=[1, 2, 3, 4, 5, 6, 7], expected=42))
        assert as_json(found)["family"]["interim"]["at"] == 7 and as_json(found)["family"]["pooled"] == []
