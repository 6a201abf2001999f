"""A run that a version with rows of format 1 wrote still opens, and shows the same numbers."""

from __future__ import annotations

import csv
import io
import json
import warnings
from pathlib import Path

import pytest
from near import near

from tskd_tune.experiment import Experiment
from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import BEST_TEST_MARK, Best, DataRecord, Row
from tskd_tune.records.entries.upgrade import upgrade
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings import summary
from tskd_tune.reports.forms import exports
from tskd_tune.reports.forms.head_lines import head_lines

OLD = Path(__file__).parents[1] / "format_1"
LINES = [json.loads(line) for line in (OLD / "run" / "rows.jsonl").read_text().splitlines()]
# What a later version may word otherwise.
WORDS = ("sentence", "note")


def test_a_row_has_what_the_old_one_had():
    row, old = Row.model_validate(upgrade(LINES[0])), LINES[0]
    value, beside = old["best_validation"]["val_top1"], old["best_validation"]["test_top1"]
    assert row.best == [
        Best(epoch=2, part="validation", metric="top1", value=value, also={"test_top1": beside}),
        Best(epoch=2, part="test", metric="top1", value=old["best_test"]["test_top1"], marked=BEST_TEST_MARK),
    ]
    assert row.measures == [
        Metric("top1", "top-1", "%", "max"),
        Metric("top5", "top-5", "%", "max"),
        Metric("loss", "loss", "", "min", digits=4),
    ]
    assert row.data == DataRecord(inputs=[1, 8, 8], outputs=10, samples=[900, 300, 597])
    assert row.teacher is None
    taught = Row.model_validate(upgrade(LINES[1])).teacher
    assert taught and taught.metrics == {"test_top1": LINES[1]["teacher"]["test_top1"]}
    assert row.identity == ""
    assert row.engine is None
    filled = ("training", "evaluation", "teacher")
    assert {**row.experiment, **dict.fromkeys(filled)} == {
        "observe": [],
        **old["experiment"],
        **dict.fromkeys(filled),
    }
    for key in ("training", "evaluation"):
        assert row.experiment[key].items() >= old["experiment"][key].items()
    teacher, was = row.experiment["teacher"], old["experiment"]["teacher"]
    assert {**teacher, "training": 0} == {"fine_tune": None, **was, "training": 0}
    assert teacher["training"].items() >= was["training"].items()
    same = row.plain().keys() & old.keys() - {"format", "data", "teacher", "experiment", "cost"}
    assert {name: row.plain()[name] for name in same} == {name: old[name] for name in same}
    assert row.cost.plain() == {**old["cost"], "together": 1, "workers": 1, "host": "", "gpu_share": 1.0}


def test_an_old_experiment_trains_as_it_did():
    experiment = Experiment.read(upgrade(LINES[0])["experiment"])
    assert not experiment.training.fold and experiment.training.graphs == "never"
    assert experiment.evaluation.validation == "every_epoch"


def test_a_row_of_the_newest_format_gets_the_options_that_came_later():
    plain = Row.model_validate(upgrade(LINES[0])).plain()
    training = {name: value for name, value in plain["experiment"]["training"].items() if name != "schedule"}
    assert upgrade({**plain, "experiment": {**plain["experiment"], "training": training}}) == plain
    without = upgrade({**plain, "experiment": {**plain["experiment"], "teacher": None}})
    assert without["experiment"]["teacher"] is None


def test_a_row_of_the_newest_format_stays_as_it_is():
    plain = Row.model_validate(upgrade(LINES[0])).plain()
    assert upgrade(plain) == plain


def test_rows_of_all_versions_list_the_same_deviations():
    """The memory format is no deviation: of a run that was resumed, some rows would list it and some would not."""
    plain = Row.model_validate(upgrade(LINES[0])).plain()
    lines = ["training.channels_last: True (preset: False)", "training.lr: 0.1 (preset: 0.05)"]
    assert upgrade({**plain, "deviations": lines})["deviations"] == lines[1:]
    document = {"task": "digits", "student": "resnet8", "review": None}
    found = [Experiment.read({**document, "training": {"channels_last": last}}).deviations() for last in (True, False)]
    assert found[0] == found[1]


@pytest.mark.parametrize("form", [None, 0, 3, "1", [1]])
def test_an_unknown_format_is_refused(form):
    with pytest.raises(ValueError, match="has format .* but this version reads formats up to 2"):
        upgrade({**LINES[0], "format": form})


@pytest.mark.parametrize("found", [7, {}, {"epoch": 1}, {"epoch": "x", "val_top1": 1.0}, {"val_top1": 1.0}])
def test_a_damaged_row_is_refused_with_a_sentence(found):
    with pytest.raises(ValueError):
        Row.model_validate(upgrade({**LINES[0], "best_validation": found}))


def table(text: str) -> list[dict[str, str]]:
    return [
        {name: cell for name, cell in line.items() if name not in WORDS} for line in csv.DictReader(io.StringIO(text))
    ]


# One number once, and now a range that contains how well the standard deviation is known.
RANGES = ("seeds_to_resolve", "seeds_to_equivalence")


@pytest.mark.parametrize("what", ["arms", "verdicts", "runs"])
def test_every_number_that_is_exported_is_the_old_one(what):
    folder = RunFolder.open(OLD / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = summary.summary(folder)
    assert found.damage == ()
    new, old = table(exports.as_csv(found, what)), table((OLD / f"{what}.csv").read_text())
    names = [name for name in old[0] if name not in RANGES]
    assert near(
        [{name: line[name] for name in names} for line in new], [{name: line[name] for name in names} for line in old]
    )


def test_the_report_tells_of_data_and_teacher_as_before():
    text = "\n".join(head_lines(summary.summary(RunFolder.open(OLD / "run"))))
    assert "10 classes; 900 training, 300 validation and 597 test images, gray, 8 x 8 pixels" in text
    assert "test top-1 16.92 %" in text


def test_an_old_experiment_reads_as_one_of_today() -> None:
    line = json.loads((OLD / "run" / "rows.jsonl").read_text().splitlines()[0])
    folder = {"name": "image_folder", "root": "images"}
    task = upgrade({**line, "experiment": {**line["experiment"], "task": folder}})["experiment"]["task"]
    assert task == {**folder, "feed": "resident", "workers": None, "prefetch": None}
    old = upgrade(line)["experiment"]
    assert old == Experiment.read(old).plain()
