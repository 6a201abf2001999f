"""The paper's tables: every search space of theirs finds its cells, and nothing else does."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

import factories
from tskd_tune.errors import InputError
from tskd_tune.records.entries.row import Best, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import paper, paper_forms
from tskd_tune.sweeps.declared.schema import Sweep

SPACES = Path(__file__).parents[3] / "search_spaces"


def a_row(arm, experiment, test=70.0, seed=1, **changes):
    facts = {
        "run": arm,
        "metrics": {"test_top1": test},
        "best": [Best.of(200, "test", "top1", test + 0.5)],
        "teacher": TeacherRecord(name=experiment["teacher"]["name"], source="auto", metrics={"test_top1": 72.4}),
        "experiment": experiment,
    }
    return factories.a_row(seed=seed, arm=arm, planned=240, **(facts | changes))


def rows_of(space, *settings):
    sweep = Sweep.load(SPACES / f"{space}.yaml", settings)
    points = enumerate(sweep.space().grid())
    return [a_row(point.label, sweep.experiment_at(point).plain(), run=f"{place:05d}") for place, point in points]


@pytest.fixture
def beside(tmp_path):
    def make(name, rows):
        folder = RunFolder.create(tmp_path, "first", "sweep", {"search": {"name": "grid"}})
        factories.write_rows(folder, rows)
        return paper.beside(summary(folder), name)

    return make


def test_a_run_without_the_papers_networks_is_told_so(beside):
    experiment = {"task": {"name": "digits"}, "teacher": {"name": "resnet14"}, "student": {"name": "resnet8"}}
    table = beside("table6", [a_row("tskd", experiment)])
    assert table.alone.startswith("No arm of this run has the networks and the method of a cell: it has resnet14 → ")
    assert f"- {table.alone}" in paper_forms.markdown(table).replace("\\_", "_")


def placed(table):
    return {
        (cell.column.split(" → ")[-1], cell.row): [ours.arm for ours in cell.ours] for cell in table.cells if cell.ours
    }


@pytest.mark.parametrize(
    ("space", "name", "expected"),
    [
        ("table6_delta", "table6", {"delta 5": ["k3_delta5"], "delta 10": ["k3_delta10"], "delta 15": ["k3_delta15"]}),
        ("table7_k", "table7", {"k 3": ["k3_delta5"], "k 6": ["k6_delta5"], "k 9": ["k9_delta5"]}),
        (
            "table5_sequence",
            "table5",
            {
                "increments": ["increment_lambda_1", "increment"],
                "feature maps": ["feature_map_lambda_1", "feature_map"],
            },
        ),
    ],
)
def test_the_arms_of_a_papers_table_stand_at_their_cells_and_the_controls_at_none(beside, space, name, expected):
    table = beside(name, rows_of(space))
    assert placed(table) == {("resnet20", row): arms for row, arms in expected.items()}
    assert table.alone == ""


def test_table_1_has_its_methods_for_every_pair(beside):
    found = placed(beside("table1", rows_of("table1_cifar100")))
    named = {"KD": "kd", "FitNet": "fitnet", "PKT": "pkt", "RKD": "rkd", "CRD": "crd", "AT": "at", "VID": "vid"}
    named |= {"OFD": "ofd", "student": "ce"}
    for pair in ("resnet56_resnet20", "resnet110_resnet32", "wrn_40_2_wrn_16_2"):
        student = pair.removeprefix("resnet56_").removeprefix("resnet110_").removeprefix("wrn_40_2_")
        for title, arm in named.items():
            assert found[student, title] == [f"{pair}, {arm}"]
        assert found[student, "TSKD"] == [f"{pair}, tskd_lambda_1", f"{pair}, tskd"]
    assert len(found) == 55 and found["resnet20", "teacher"] == ["teacher resnet56"]


def detector(arm, distiller, review, student="faster_rcnn_resnet18_fpn"):
    experiment = {
        "task": {"name": "coco"},
        "teacher": {"name": "faster_rcnn_resnet101_fpn"},
        "student": {"name": student},
        "distiller": {"name": distiller},
        "review": review,
    }
    teacher = TeacherRecord(name="faster_rcnn_resnet101_fpn", source="auto", metrics={"test_ap": 41.0})
    metrics = {"test_ap": 30.0, "test_ap50": 50.0}  # no image had small objects
    return a_row(arm, experiment, teacher=teacher, metrics=metrics, best=[])


def test_detectors_stand_at_the_cells_of_table_4(beside):
    reviewed = {"k": 3, "delta": 1}
    rows = [detector("alone", "none", None), detector("kd", "detection_kd", None)]
    table = beside("table4", [*rows, detector("both", "review_kd", reviewed), detector("tskd", "none", reviewed)])
    cells = {(cell.column, cell.row): cell.ours for cell in table.cells if cell.ours}
    assert {row for _, row in cells} == {
        f"R101 → R18: {row}" for row in ("teacher", "student", "KD", "TSKD + ReviewKD")
    }
    (both,) = cells["mAP", "R101 → R18: TSKD + ReviewKD"]
    assert (both.arm, both.last.mean, both.comparable) == ("both", 30.0, True)
    assert cells["AP50", "R101 → R18: student"][0].last.mean == 50.0
    assert cells["APs", "R101 → R18: student"][0].last.mean is None
    assert cells["mAP", "R101 → R18: teacher"][0].last.mean == 41.0
    assert "30.00" in paper_forms.markdown(table)


def test_table_4_has_its_methods_for_every_pair(beside):
    table = beside("table4", rows_of("table4_coco", "experiment.task.root=somewhere"))
    found = placed(table)
    named = {"student": "plain", "KD": "kd", "FitNet": "fitnet", "FGFI": "fgfi", "ReviewKD": "review_kd"}
    pairs = {"R101 → R18": "resnet101_resnet18", "R101 → R50": "resnet101_resnet50"}
    for title, pair in (pairs | {"R50 → MV2": "resnet50_mobilenet_v2"}).items():
        for method, arm in named.items():
            assert found["APs", f"{title}: {method}"] == [f"{pair}, {arm}"]
        reviewed = [f"{pair}, tskd_review_kd", f"{pair}, tskd_auto_review_kd"]
        assert found["mAP", f"{title}: TSKD + ReviewKD"] == reviewed


def test_other_data_less_of_it_and_fewer_epochs_are_said(beside):
    rows = rows_of("table6_delta")[:3]
    other = rows[1].model_copy(
        update={"experiment": rows[1].experiment | {"task": {"name": "digits", "validation": 100}}}
    )
    short = rows[2].model_copy(update={"epochs_planned": 24})
    table = beside("table6", [rows[0], other, short])
    five, ten, _ = table.cells
    assert five.ours[0].mind == (
        "other data (digits): not comparable",
        "100 training images held out for validation",
    )
    assert not five.ours[0].comparable
    assert ten.ours[0].mind == ("24 epochs instead of 240",) and ten.ours[0].comparable


def test_a_cell_has_our_spread_and_the_papers_mark(beside):
    experiment = rows_of("table6_delta")[1].experiment
    values = [71.0, 71.5, 72.0]
    rows = [a_row("mine", experiment, value, seed) for seed, value in enumerate(values)]
    failed = a_row("mine", experiment, 1.0, 9, status="failed", reason="NaN", epochs=3)
    table = beside("table6", [*rows, failed])
    (ours,) = table.cells[0].ours
    assert (ours.last.n, ours.last.mean) == (3, pytest.approx(71.5))
    assert ours.interval.high == pytest.approx(71.5 + 4.302652729911275 * 0.5 / math.sqrt(3))
    assert ours.mind == ("1 seed failed",)
    text = paper_forms.markdown(table)
    assert "‡ paper, 3 runs, no standard deviation (arXiv 2307.00811v1)" in text
    assert (
        "| delta 5 | 71.76 | 71.50 ± 0.50 (3 of 4 seeds) | 70.26 to 72.74 | 72.00 ± 0.50 (3 of 4 seeds) | mine |"
        in text
    )
    assert "12, 6 or 4 reviews" in text and "chosen on the test set" in text
    line = next(csv.DictReader(io.StringIO(paper_forms.as_csv(table))))
    assert (line["paper"], line["n"], line["arm"]) == ("71.76", "3", "mine")
    assert r"$\ddagger$" in paper_forms.latex(table) and "—" not in paper_forms.latex(table)
    assert paper_forms.rich_table(table).row_count == 3


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "table6", "table7"])
def test_every_table_is_whole_and_has_its_footnotes(beside, name):
    table = beside(name, [])
    data = paper.paper_tables()[paper.named(name)]
    assert all(len(row.values) == len(data.columns) for row in data.rows)
    assert len(table.cells) == len(data.rows) * len(data.columns)
    assert table.footnotes and paper_forms.markdown(table).count("Paper: ") == len(table.footnotes)


def test_cells_that_others_quote():
    tables_of = paper.paper_tables()
    assert [row.values for row in tables_of["table6_interval"].rows] == [[71.76], [71.28], [71.19]]
    assert tables_of["table1_cifar100"].rows[-1].values == [71.76, 75.73, 75.61, 74.49, 73.55]
    assert [row.values for row in tables_of["table7_memories"].rows] == [[71.76], [71.81], [71.78]]


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(InputError, match=r"there is no table 'tabel6'; did you mean 'table6'\? known: table1, table2"):
        paper.named("tabel6")


def test_an_option_that_did_not_exist_yet_is_as_it_always_was(beside):
    """A row of an older version lacks options that the conditions name."""
    (row,) = [row for row in rows_of("table6_delta") if row.arm == "k3_delta5"]
    review = row.experiment["review"]
    plan = {name: value for name, value in review["plan"].items() if name != "review_window"}
    assert "review_window" in review["plan"]

    def with_review(changed):
        return row.model_copy(update={"experiment": row.experiment | {"review": changed}})

    older = with_review({**review, "plan": plan})
    assert placed(beside("table6", [older])) == {("resnet20", "delta 5"): ["k3_delta5"]}


def test_an_option_with_another_value_is_not_the_papers(beside):
    (row,) = [row for row in rows_of("table6_delta") if row.arm == "k3_delta5"]
    review = row.experiment["review"]
    for changed in (None, {**review, "plan": {**review["plan"], "review_window": 2}}, {**review, "extractor": "x"}):
        other = row.model_copy(update={"experiment": row.experiment | {"review": changed}, "run": str(changed)})
        assert paper._meets(other.experiment, paper.paper_tables()["table6_interval"].rows[0].match) is False
