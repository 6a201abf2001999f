"""Arms that were trained under several teachers: one arm per label, compared over teachers and seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factories import a_cost, a_row, write_rows
from tskd_tune.records.entries.row import Row, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.exports import as_csv
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json

SEEDS = [1, 2, 3, 4, 5]
NOISE = [0.3, -0.2, 0.1, -0.3, 0.1]
# Teacher -> the mean of the arm with a review.
TAUGHT = {0: 71.0, 1: 71.6, 2: 74.0}
Judge = Callable[..., Findings]


def row(arm: str, seed: int, value: float | None, teacher: int | None = None, **facts: Any) -> Row:
    experiment = {
        "task": {"name": "digits"},
        "student": {"name": "resnet8"},
        "review": {"k": 1} if arm == "tskd" else None,
        "distiller": {"name": "kd" if arm == "kd" else "none"},
        "training": {"epochs": 2},
        "teacher": {"name": "resnet56", "weights": "auto", "training": {"seed": teacher or 0}},
    }
    found = (
        {"teacher": TeacherRecord(name="resnet56", source="auto", key=f"{teacher}" * 16)} if teacher is not None else {}
    )
    point = {"arm": arm} if teacher is None else {"arm": arm, "teacher.seed": teacher}
    metrics = {} if value is None else {"test_top1": value}
    given = {"metrics": metrics, "experiment": experiment, "commit": None, "cost": a_cost(), "point": point}
    return a_row(f"{arm}-{teacher}-{seed}", seed, arm, **(given | found | facts))


def rows(taught: dict[int, float] = TAUGHT, arms: tuple[str, ...] = ("tskd",)) -> list[Row]:
    """Return the rows of a baseline without a teacher, and of arms under several teachers."""
    found = [row("ce", seed, 70.0 + noise) for seed, noise in zip(SEEDS, NOISE, strict=True)]
    for place, arm in enumerate(arms):
        for teacher, mean in taught.items():
            bias = (teacher + 1) * 0.01 * (1 - place)
            found += [row(arm, seed, mean - place + (1 + bias) * NOISE[seed - 1], teacher) for seed in SEEDS]
    return found


@pytest.fixture(name="judged")
def _judged(tmp_path: Path) -> Judge:
    def judge(given: list[Row], experiment: Any = None, **compare: Any) -> Findings:
        document = {"search": {"name": "grid"}, "seeds": SEEDS, "compare": {"sequential": "split", **compare}}
        document |= {"experiment": experiment} if experiment else {}
        folder = RunFolder.create(tmp_path, f"run{len([*tmp_path.iterdir()])}", "sweep", document)
        write_rows(folder, given)
        return summary(folder)

    return judge


def test_an_arm_is_one_arm_with_the_means_over_its_teachers(judged: Judge) -> None:
    found = judged(rows())
    assert [arm.arm for arm in found.arms] == ["ce", "tskd"]
    taught = found.arms[1]
    assert taught.seeds == (1, 2, 3, 4, 5)
    assert (taught.headline.n, taught.headline.of) == (5, 5)
    assert taught.headline.mean == pytest.approx(sum(TAUGHT.values()) / 3)
    assert "teacher.seed" not in taught.point


def test_a_comparison_is_over_teachers_and_seeds_and_says_the_share_of_the_teacher(judged: Judge) -> None:
    found = judged(rows())
    assert found.family is not None
    finding = found.family.family.findings[0]
    # Over seeds alone it would be resolved: each seed shows a difference of 2.2 points.
    assert finding.contrast.t_p is not None
    assert finding.contrast.t_p < 1e-6
    assert finding.verdict == "undecided"
    assert "+2.20 points" in finding.sentence
    assert "5 seeds under each of 3 teachers, paired" in finding.sentence
    assert "The teacher's share of the variance of a difference is 100 %" in finding.sentence
    assert finding.crossed is None and "under several teachers" in finding.crossed_reason
    assert "+1.00 (teacher 0), +1.60 (teacher 1), +4.00 (teacher 2)." in finding.sentence


def test_what_is_not_planned_under_several_teachers_is_said(judged: Judge) -> None:
    """An undecided comparison had no number of seeds and no word on it, and a mixed table spoke of the others alone."""
    alone = judged(rows()).family
    assert alone is not None
    assert "How many seeds would decide is not planned" in alone.family.findings[0].sentence
    assert "The smallest difference that this design detects is not planned" in alone.family.sentence
    noisy = [row("kd", seed, 70.2 - NOISE[seed - 2]) for seed in SEEDS]
    mixed = judged([*rows(), *noisy]).family
    assert mixed is not None
    said = {finding.contrast.arm: finding.sentence for finding in mixed.family.findings}
    assert "not planned" in said["tskd"] and "not planned" not in said["kd"] and "80 % power" in said["kd"]
    assert mixed.family.sentence.startswith("This design detects differences of")
    assert mixed.family.sentence.endswith("under several teachers, which do not tell their variance.")


def test_two_arms_are_paired_by_teacher_and_seed(judged: Judge) -> None:
    found = judged(rows(arms=("tskd", "kd")), pairs=[["tskd", "kd"]])
    assert found.family is not None
    finding = found.family.family.findings[0]
    # Every teacher gives the arms the same difference, of one point, however much the arms vary over teachers.
    assert finding.contrast.difference == pytest.approx(1.0)
    assert finding.verdict == "resolved"
    assert not finding.withheld


def test_a_failed_run_takes_its_seed_out_of_the_table_and_is_named(judged: Judge) -> None:
    given = [
        one for one in rows(arms=("tskd", "kd")) if (one.arm, one.seed, one.point.get("teacher.seed")) != ("tskd", 4, 1)
    ]
    broken = row("tskd", 4, None, 1, status="failed", reason="diverged")
    found = judged([*given, broken], pairs=[["tskd", "kd"]])
    assert found.family is not None
    finding = found.family.family.findings[0]
    assert finding.contrast.seeds == (1, 2, 3, 5)
    assert any("seed 4 (teacher 1) failed" in note for note in found.family.notes)
    assert finding.contrast.teachers is not None
    assert (finding.contrast.teachers.n, finding.contrast.teachers.count) == (4, 3)


def test_a_seed_that_still_trains_under_a_teacher_is_no_failed_seed(judged: Judge) -> None:
    given = [one for one in rows() if (one.seed, one.point.get("teacher.seed")) != (5, 2)]
    found = judged(given)
    assert found.family is not None
    finding = found.family.family.findings[0]
    assert finding.contrast.n == 4
    assert "failed" not in " ".join(found.family.notes)
    assert "first verdict is at 5 seeds, and 4 of these have ended" in finding.sentence


DECLARED = {"teacher": {"name": "resnet56", "seeds": [0, 1, 2]}}


@pytest.mark.parametrize("sequential", ["split", "fixed"])
@pytest.mark.parametrize("arms", [("tskd", "kd"), ("tskd",)])
def test_a_declared_teacher_without_a_row_is_named_and_nothing_is_judged_without_it(
    judged: Judge, sequential: str, arms: tuple[str, ...]
) -> None:
    whole = rows(arms=("tskd", "kd"))
    given = [one for one in whole if not (one.arm in arms and one.point.get("teacher.seed") == 2)]
    pairs = [["tskd", "kd"], ["tskd", "ce"]]
    found = judged(given, experiment=DECLARED, pairs=pairs, sequential=sequential).family
    assert found is not None
    assert [finding.verdict for finding in found.family.findings] == [None, None]
    said = [note for note in found.notes if "has no run under teacher 2 of the declared teachers 0, 1, 2" in note]
    assert {note.split("'")[1] for note in said} == {*arms} and len(said) == len(arms)
    complete = judged(whole, experiment=DECLARED, pairs=pairs, sequential=sequential).family
    assert complete is not None and complete.family.findings[0].verdict == "resolved"
    assert not any("declared teachers" in note for note in complete.notes)


def test_a_teacher_all_of_whose_runs_failed_is_named_and_nothing_is_judged_without_it(judged: Judge) -> None:
    failed = [
        row(one.arm, one.seed, None, 2, status="failed", reason="diverged")
        if (one.arm, one.point.get("teacher.seed")) == ("tskd", 2)
        else one
        for one in rows()
    ]
    found = judged(failed, experiment=DECLARED).family
    assert found is not None and found.family.findings[0].verdict is None
    assert any("seeds 1 (teacher 2), 2 (teacher 2)" in note and "failed" in note for note in found.notes)


def test_interim_analyses_wait_for_all_teachers(judged: Judge) -> None:
    declared = {"sequential": "looks", "interim": [5], "pairs": [["tskd", "kd"]]}
    late = [
        one for one in rows(arms=("tskd", "kd")) if (one.arm, one.seed, one.point.get("teacher.seed")) != ("kd", 5, 2)
    ]
    assert judged(late, **declared).family is None
    unseen = judged([one for one in late if one.point.get("teacher.seed") != 2], experiment=DECLARED, **declared)
    assert unseen.family is None and "'kd' has no run under teacher 2 of the declared" in unseen.family_reason
    whole = judged(rows(arms=("tskd", "kd")), **declared).family
    assert whole is not None
    assert whole.family.findings[0].contrast.teachers is not None


def test_the_teachers_are_no_difference_that_must_be_declared(judged: Judge) -> None:
    found = judged(rows(arms=("tskd", "kd")), pairs=[["tskd", "kd"]])
    assert found.family is not None
    assert "Also differs" not in found.family.family.findings[0].sentence
    other = TeacherRecord(name="resnet56", source="auto", key="f" * 16)
    given = [
        one.model_copy(update={"teacher": other}) if one.arm == "kd" and one.seed == 2 else one
        for one in rows(arms=("tskd", "kd"))
    ]
    family = judged(given, pairs=[["tskd", "kd"]]).family
    assert family is not None
    assert "Also differs in: teacher resnet56" in family.family.findings[0].sentence


def test_the_report_names_the_teachers_in_all_its_forms(judged: Judge) -> None:
    found = judged(rows())
    text = markdown(found)
    assert "Teacher resnet56 of seed 2" in text
    assert "share of the variance of a difference" in text
    assert "the value of a seed is its mean over the teachers" in text
    contrast: Any = as_json(found)["family"]
    teachers = contrast["findings"][0]["contrast"]["teachers"]
    assert teachers["seeds"] == [0, 1, 2]
    assert teachers["share"] == pytest.approx(1.0, abs=0.01)
    lines = as_csv(found, "verdicts").splitlines()
    assert "teacher_share" in lines[0].split(",")
    assert ",0 1 2," in lines[1]


def test_one_teacher_is_not_told_of_in_any_form(judged: Judge) -> None:
    found = judged(
        [row("ce", seed, 70.0 + seed) for seed in SEEDS] + [row("tskd", seed, 71.0 + seed) for seed in SEEDS]
    )
    contrast: Any = as_json(found)["family"]
    assert "teachers" not in contrast["findings"][0]["contrast"]
    assert "teacher_share" not in as_csv(found, "verdicts")
    assert "share of the variance" not in markdown(found)
