"""A report begins with what was run, and warns of a teacher that its student passes."""

from __future__ import annotations

from dataclasses import replace

import pytest

import factories
from factories import a_cost
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.row import Cost, DataRecord, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.head import TrainedTask
from tskd_tune.reports.findings.records import Deviations
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import report_lines
from tskd_tune.reports.forms.head_lines import head_lines, setting_lines, task_line
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.reports.page.report import html

QUESTION = "Does it help <b>?"
DATA = DataRecord(inputs=[1, 8, 8], outputs=10, samples=[1300, 300, 597])


def a_row(run="t0", seed=1, arm="baseline", test=60.0, **changes):
    facts = {"metrics": {"test_top1": test}, "cost": a_cost(9.0)}
    return factories.a_row(run, seed, arm, planned=10, **(facts | changes))


def a_teacher(accuracy, name="resnet20", key="k1"):
    return TeacherRecord(name=name, source="auto", key=key, parameters=272_186, metrics={"test_top1": accuracy})


def experiment(student="resnet8", teacher="resnet20", task="digits"):
    return {"task": {"name": task}, "student": {"name": student}, "teacher": {"name": teacher, "weights": "auto"}}


def a_folder(tmp_path, *rows, origin=None):
    folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=len(rows), origin=origin)
    factories.write_rows(folder, rows)
    return folder


def arms_of(taught, plain, by, **over):
    """Return an arm that a teacher taught and one without a teacher, of two seeds each."""
    given = {"experiment": experiment(**over), "data": DATA}
    return [
        *(a_row("t0", seed, arm="kd", test=taught, teacher=by, **given) for seed in (1, 2)),
        *(a_row("t1", seed, arm="plain", test=plain, **given) for seed in (1, 2)),
    ]


def every_form(folder):
    found = summary(folder)
    lines = [*head_lines(found), *report_lines.warning_lines(found)]
    forms = {"markdown": markdown(found), "page": html(folder, found), "latex": latex(found)}
    return {**forms, "terminal": "\n".join(lines)}


def test_the_head_says_what_was_run(tmp_path):
    folder = a_folder(tmp_path, *arms_of(70.0, 69.0, a_teacher(97.5)), origin=Origin("digits.yaml", QUESTION))
    found = summary(folder)
    assert head_lines(found) == [
        QUESTION,
        "Task digits: 10 classes; 1,300 training, 300 validation and 597 test images, gray, 8 x 8 pixels.",
        "Teacher resnet20: test top-1 97.50 % (trained here, key k1, 0.27 M parameters).",
        "The conclusions hold for this one teacher: resnet20 (key k1). Another teacher may give others.",
        "Student resnet8: 10 epochs; 2 arms, 2 seeds (1, 2).",
        "Trained on cpu, 1 thread.",
    ]
    assert (as_json(found)["head"]["question"], as_json(found)["head"]["file"]) == (QUESTION, "digits.yaml")
    assert as_json(found)["head"]["tasks"] == [{"name": "digits", **DATA.plain()}]
    for form, text in every_form(folder).items():
        assert "10 classes" in text, form
        assert ("Does it help" in text) and ("help <b>?" not in text or form == "terminal"), form
        assert text.count("Teacher resnet20") == 1, f"{form}: nothing is said twice"


def test_what_an_older_version_did_not_record_is_left_out(tmp_path):
    folder = a_folder(tmp_path, a_row())
    assert head_lines(summary(folder)) == ["10 epochs; 1 arm, 1 seed (1).", "Trained on cpu, 1 thread."]


def test_several_of_each_are_named(tmp_path):
    gpu = Cost(seconds=1, train_seconds=1, device="H100", threads=4, workers=2)
    rows = [
        a_row("t0", 1, experiment=experiment(), data=DATA),
        a_row("t1", 3, experiment=experiment("vgg8", task="x"), epochs=20, epochs_planned=20, cost=gpu),
    ]
    lines = head_lines(summary(a_folder(tmp_path, *rows)))
    assert "Task x." in lines
    assert "Students resnet8, vgg8: 10 to 20 epochs; 1 arm, 2 seeds (1, 3)." in lines
    assert lines[-1] == "Trained on cpu, 1 thread; H100, 4 threads, 2 workers for each run."


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([5, 0, 0], "5 training images"),
        ([5, 0, 7], "5 training and 7 test images"),
        ([5, 6, 0], "5 training and 6 valid"),
    ],
)
def test_parts_that_are_not_there_are_not_named(samples, said):
    task = TrainedTask("x", DataRecord(inputs=[3, 32, 32], outputs=1, samples=samples))
    assert said in task_line(task) and "1 class;" in task_line(task) and "color" in task_line(task)


def test_seeds_are_told_in_short():
    assert runs_of([1, 2, 3, 4, 5, 8, 10, 11]) == "1 to 5, 8, 10, 11"


def test_what_all_arms_have_is_said_once():
    settings = [
        Deviations("paper", ("a", "b"), ("one",)),
        Deviations("paper", ("a",), ("two", "three")),
    ]
    assert setting_lines(settings) == [
        "every arm: preset paper; a",
        "one: b",
        "two; three: nothing else",
    ]
    assert setting_lines(settings[1:]) == ["two; three: preset paper; a"]
    mixed = [settings[0], replace(settings[1], preset="official")]
    assert setting_lines(mixed) == ["one: preset paper; a; b", "two; three: preset official; a"]


# Teachers


def warned(tmp_path, *rows):
    return as_json(summary(a_folder(tmp_path, *rows)))["warnings"]


def test_a_teacher_that_its_student_passes_is_a_warning_in_every_form(tmp_path):
    folder = a_folder(tmp_path, *arms_of(taught=70.0, plain=65.0, by=a_teacher(66.0)))
    (warning,) = as_json(summary(folder))["warnings"]
    assert warning["arms"] == ["kd"]
    assert warning["sentence"].startswith(
        "teacher resnet20: its test top-1 of 66.00 % is below the mean of its student, which reaches 70.00 % in 'kd'"
    )
    for form, text in every_form(folder).items():
        assert "is below the mean of its student" in text, form
        assert "train the teacher longer" in text, form


def test_two_teachers_of_one_network_are_told_apart_in_their_warnings(tmp_path):
    rows = [
        row.model_copy(update={"run": f"{key} {row.run}", "arm": f"{key} {row.arm}"})
        for key in ("k1", "k2")
        for row in arms_of(70.0, 65.0, a_teacher(66.0, "resnet20", key))
    ]
    told = [warning["sentence"].partition(":")[0] for warning in warned(tmp_path, *rows)]
    assert told == ["teacher resnet20 (key k1)", "teacher resnet20 (key k2)"]


def test_a_student_without_a_teacher_counts_too(tmp_path):
    (warning,) = warned(tmp_path, *arms_of(taught=65.0, plain=67.0, by=a_teacher(66.0)))
    assert warning["arms"] == ["plain"]


@pytest.mark.parametrize("accuracy", [97.0, 70.0, None])
def test_a_better_teacher_and_one_that_was_not_measured_are_none(tmp_path, accuracy):
    assert warned(tmp_path, *arms_of(70.0, 69.0, a_teacher(accuracy))) == []


def test_students_of_another_pair_say_nothing_of_a_teacher(tmp_path):
    pairs = [
        *arms_of(60.0, 59.0, a_teacher(66.0)),
        *(
            row.model_copy(update={"run": f"other {row.run}", "arm": f"other {row.arm}"})
            for row in arms_of(80.0, 79.0, a_teacher(90.0, "vgg13", "k2"), student="vgg8", teacher="vgg13")
        ),
    ]
    assert warned(tmp_path, *pairs) == []


def test_self_distillation_is_named_as_such(tmp_path):
    (warning,) = warned(tmp_path, *arms_of(70.0, 69.0, a_teacher(66.0, "resnet8"), teacher="resnet8"))
    assert "one architecture (self-distillation)" in warning["sentence"]
    assert "train the teacher longer" not in warning["sentence"]


def test_a_teacher_that_learned_beside_its_student_is_measured_at_the_end(tmp_path):
    metrics = {"test_top1": 70.0, "test_teacher_top1": 60.0}
    (warning,) = warned(tmp_path, a_row(arm="ekd", metrics=metrics))
    assert "learned beside its student ended at a mean test top-1 of 60.00 %" in warning["sentence"]
    (tmp_path / "better").mkdir()
    assert warned(tmp_path / "better", a_row(metrics={**metrics, "test_teacher_top1": 71.0})) == []


def test_a_training_that_broke_at_its_beginning_adds_no_task_and_no_device(tmp_path):
    rows = arms_of(60.0, 50.0, None)
    unknown = Cost(seconds=0.0, train_seconds=0.0, device="not known", threads=1)
    broke = {"status": "failed", "broke": True, "reason": "boom", "epochs": 0, "metrics": {}, "cost": unknown}
    found = summary(a_folder(tmp_path, *rows, a_row("t2", 1, experiment=experiment(), **broke)))
    assert len(as_json(found)["head"]["tasks"]) == 1 and as_json(found)["head"]["tasks"][0]["outputs"] == 10
    assert as_json(found)["head"]["devices"] == ["cpu, 1 thread"]


def test_every_form_says_once_that_its_conclusions_hold_for_one_teacher(tmp_path):
    folder = a_folder(tmp_path, *arms_of(70.0, 69.0, a_teacher(97.5, key="0123456789abcdef")))
    for form, text in every_form(folder).items():
        assert text.count("hold for this one teacher: resnet20 (key 01234567)") == 1, form


def lone(tmp_path, *rows):
    return [line for line in head_lines(summary(a_folder(tmp_path, *rows))) if "Another teacher" in line]


def test_arms_of_different_teachers_have_one_each(tmp_path):
    others = arms_of(80.0, 79.0, a_teacher(90.0, "vgg13", "k2"), student="vgg8", teacher="vgg13")
    renamed = [row.model_copy(update={"run": f"v{row.run}", "arm": f"vgg {row.arm}"}) for row in others]
    rows = [*arms_of(60.0, 59.0, a_teacher(66.0)), *renamed]
    assert lone(tmp_path, *rows) == [
        "Each conclusion holds for the one teacher of its arms: resnet20 (key k1), vgg13 (key k2)."
        " Another teacher may give others."
    ]


def test_an_arm_of_several_teachers_one_that_learns_and_none_say_nothing(tmp_path):
    several = [a_row("t0", seed, arm="kd", teacher=a_teacher(70.0, key=f"k{seed}")) for seed in (1, 2)]
    assert lone(tmp_path / "several", *several) == []
    learns = TeacherRecord(name="resnet20", source="untrained", key=None)
    assert lone(tmp_path / "learns", a_row(teacher=learns)) == []
    assert lone(tmp_path / "none", a_row()) == []
