"""Arms are compared like with like: what differs besides what is compared is said, and must be declared."""

from __future__ import annotations

import csv
import io

import pytest

from factories import a_row, write_rows
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.options import Options
from tskd_tune.records.entries.row import TeacherRecord
from tskd_tune.records.entries.teacher_names import told_apart
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.registry import NO_IDENTITY
from tskd_tune.reports.findings import likeness
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.exports import as_csv
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.sweeps.declared.settings import Compare

BASE = [70.1, 70.4, 69.8, 70.0, 70.3, 70.2, 69.9]
BETTER = [71.0, 71.5, 70.9, 70.8, 71.4, 71.3, 70.7]
TSKD = {"k": 3, "delta": 5}
REASON = "Undecided: the arms differ in more than what is compared."


def a_teacher(key, name="resnet56", source="auto"):
    return TeacherRecord(name=name, source=source, key=key, metrics={"test_top1": 72.0})


def an_arm(arm, values, review=None, distiller="none", teacher=None, *, training=None, task=None, **options):
    experiment = {
        "task": {"name": "digits", "batch_size": 64, **(task or {})},
        "student": {"name": "resnet8"},
        "review": review,
        "distiller": {"name": distiller},
        "training": {"epochs": 2, "precision": "float32", "threads": 1, **(training or {})},
        "teacher": {"name": "resnet56", "weights": "auto", "replay": None},
    }
    facts = {"metrics": {"test_top1": 0.0}, "experiment": experiment, "commit": None, "teacher": teacher}
    return [
        a_row(f"{arm}-{seed}", seed, arm, **(facts | options | {"metrics": {"test_top1": value}}))
        for seed, value in enumerate(values, 1)
    ]


@pytest.fixture
def judged(tmp_path):
    def make(*arms, **compare):
        document = {"search": {"name": "grid"}, "seeds": [*range(1, 8)], "compare": compare}
        folder = RunFolder.create(tmp_path, f"run{len([*tmp_path.iterdir()])}", "sweep", document)
        rows = [row.model_copy(update={"run": f"{place}-{row.run}"}) for place, of in enumerate(arms) for row in of]
        write_rows(folder, rows)
        return summary(folder)

    return make


def told(found):
    return {item.contrast.arm: (item.verdict, item.sentence) for item in found.family.family.findings}


def test_a_longer_training_is_not_a_gain_of_the_review(judged):
    arms = an_arm("ce", BASE), an_arm("tskd", BETTER, TSKD, training={"epochs": 6, "threads": 2})
    verdict, sentence = told(judged(*arms))["tskd"]
    assert verdict == "undecided" and REASON in sentence
    assert sentence.endswith("compare: {allow: [training.epochs]}. Also differs in: epochs 6 against 2.")
    text = markdown(judged(*arms))
    assert "Also differs in: epochs 6 against 2." in text and "Resolved" not in text and "seeds to" not in text
    # Declared, it is resolved and still said; an equivalence is withheld as well.
    for allow in (["training.epochs"], ["training"]):
        verdict, sentence = told(judged(*arms, allow=allow))["tskd"]
        assert verdict == "resolved" and sentence.endswith("epochs 6 against 2 (allowed by compare.allow).")
    same = an_arm("ce", BASE), an_arm("kd", BASE, distiller="kd", task={"batch_size": 32}, training={"epochs": 6})
    verdict, sentence = told(judged(*same, pairs=[["kd", "ce"]]))["kd"]
    assert verdict == "undecided" and "batch size 32 against 64" in sentence and "Equivalent" not in sentence
    verdict, sentence = told(judged(*same, pairs=[["kd", "ce"]], allow=["task"]))["kd"]
    assert verdict == "undecided" and "allow: [training.epochs]" in sentence


def test_a_report_says_which_allowed_key_fits_nothing_and_takes_no_such_key(judged, tmp_path):
    arms = an_arm("ce", BASE), an_arm("tskd", BETTER, TSKD, training={"epochs": 6})
    found = judged(*arms, allow=["training.epoch", "task.batch_size"])
    said = "compare.allow: 'training.epoch' is a key of no arm, so it would allow nothing; did you mean 'training.epoc"
    (note,) = (note for note in found.family.notes if "compare.allow" in note)
    assert note.startswith(said)
    folder = RunFolder.open(tmp_path / found.run)
    with pytest.raises(InputError, match="^--set: compare.allow: 'training.lrs' is a key of no arm"):
        summary(folder, ["compare.allow=[training.lrs]"])
    assert summary(folder, ["compare.allow=[training.epochs]"]).family is not None


def test_what_is_compared_needs_no_permission(judged):
    """A grid over epochs compares epochs; a review with fewer reviews or a larger k is another review."""
    arms = an_arm("short", BASE), an_arm("long", BETTER, training={"epochs": 6, "lr": 0.2})
    assert told(judged(*arms))["long"][0] == "resolved"
    few = {**TSKD, "plan": {"max_reviews": 1}}
    arms = an_arm("tskd", BASE, TSKD), an_arm("few", BETTER, few), an_arm("far", BETTER, {"k": 6, "delta": 5})
    assert {verdict for verdict, _ in told(judged(*arms, baseline="tskd")).values()} == {"resolved"}
    # Two things at once, and neither is a method: which of them is compared?
    arms = an_arm("a", BASE), an_arm("b", BETTER, task={"batch_size": 32}, training={"epochs": 6})
    assert told(judged(*arms, pairs=[["b", "a"]]))["b"][0] == "undecided"
    # A teacher that an arm declares and does not use is no difference.
    arms = an_arm("ce", BASE), an_arm("kd", BETTER, distiller="kd", teacher=a_teacher("1f" * 8))
    assert told(judged(*arms))["kd"][0] == "resolved"


def test_an_analysis_of_interim_seeds_is_as_strict(judged):
    arms = an_arm("ce", BASE), an_arm("tskd", BETTER, TSKD, training={"precision": "bfloat16"})
    verdict, sentence = told(judged(*arms, interim=[5, 7]))["tskd"]
    assert verdict == "undecided" and "precision bfloat16 against float32" in sentence
    # A verdict that is withheld does not stop the sweep at an earlier analysis.
    found = judged(an_arm("ce", BASE[:5]), an_arm("tskd", BETTER[:5], TSKD, training={"epochs": 6}), interim=[5, 7])
    interim = found.family.interim
    assert (interim.stop, interim.next, interim.next_seeds) == (False, 7, (6, 7))
    assert "go on to 7 seeds: 1 of 1 comparison without a decision" in interim.sentence
    alike = judged(an_arm("ce", BASE[:5]), an_arm("tskd", BETTER[:5], TSKD), interim=[5, 7]).family.interim
    assert alike.stop and alike.next_seeds == ()


def test_teachers_of_one_network_are_told_apart_everywhere(judged):
    one, other = a_teacher("1f" * 8), a_teacher("2e" * 8, source="given.pth")
    arms = an_arm("kd", BASE, distiller="kd", teacher=one), an_arm("tskd", BETTER, TSKD, teacher=other)
    found = judged(*arms)
    verdict, sentence = told(found)["tskd"]
    assert verdict == "undecided" and "allow: [teacher.weights]" in sentence
    assert "Also differs in: teacher resnet56 (key 2e2e2e2e) against resnet56 (key 1f1f1f1f)." in sentence
    text = markdown(found)
    assert "| arm | teacher |" in text and "| kd | resnet56 (key 1f1f1f1f) |" in text
    assert "(trained here, key 1f1f" in text and "(given.pth, key 2e2e" in text
    assert "2e2e2e2e" in latex(found) and {"1f" * 8, "2e" * 8} <= {one["key"] for one in as_json(found)["teachers"]}
    for what in ("arms", "runs"):
        keys = [line["teacher_key"] for line in csv.DictReader(io.StringIO(as_csv(found, what)))]
        assert list(dict.fromkeys(keys)) == ["1f" * 8, "2e" * 8]
    # One teacher for all arms needs no column; another network has another name.
    assert "| arm | teacher |" not in markdown(judged(*(an_arm(arm, BASE, teacher=one) for arm in ("a", "b"))))
    assert list(told_apart([one, a_teacher("2e" * 8, "resnet110")]).values()) == ["resnet56", "resnet110"]
    # A seed with another teacher than its partner is found where the first seeds agree.
    mixed = [*an_arm("tskd", BETTER[:6], TSKD, teacher=one), *an_arm("tskd", BETTER, TSKD, teacher=other)[6:]]
    verdict, _ = told(judged(arms[0], mixed))["tskd"]
    assert verdict == "undecided"


def test_as_many_options_and_other_files(judged):
    data = [{"inputs": [1, 8, 8], "outputs": 10, "samples": [count, 100, 100]} for count in (1000, 900)]
    arms = an_arm("ce", BASE, data=data[0]), an_arm("tskd", BETTER, TSKD, data=data[1])
    verdict, sentence = told(judged(*arms))["tskd"]
    assert verdict == "undecided" and "images 900 + 100 + 100 against 1,000 + 100 + 100" in sentence


def test_the_options_that_change_no_number_are_those_of_the_experiment():
    def aside(options: type[Options], path: str) -> set[str]:
        fields = options.model_fields.items()
        return {f"{path}.{name}" for name, field in fields if NO_IDENTITY in field.metadata}

    training = Experiment.model_fields["training"].annotation
    assert training is not None and aside(training, "training") == likeness.ASIDE


@pytest.mark.parametrize("path", ["review.k", "epochs", "training.", "distiller"])
def test_only_what_arms_have_in_common_can_be_allowed(path):
    with pytest.raises(ValueError, match="allow"):
        Compare.model_validate({"allow": [path]})
