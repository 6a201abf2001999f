"""The curve of a search in a report: which trials count, what it rests on, and its forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import factories
from factories import RANDOM, TOP1, a_search
from tskd_tune.cli import app
from tskd_tune.metrics import Metric
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.search_curve import counts_to, lines, milestones
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.exports import as_csv
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.page.report import html

LOSS = Metric("loss", "loss", "", "min", digits=3)
VALUES = [71.2, 70.1, 74.9, 70.1, 68.0, 73.3, 72.5, 69.9]


def curve(folder: RunFolder) -> Any:
    found = summary(folder).curve
    assert found is not None
    return found


def test_a_random_search_has_the_expected_best_of_its_trials(tmp_path: Path) -> None:
    found = curve(a_search(tmp_path, VALUES))
    assert (found.kind, found.searches, found.trials, found.without_value) == ("expected", 1, 8, 0)
    assert found.points[0].value == pytest.approx(sum(VALUES) / 8) and found.points[-1].value == pytest.approx(74.9)
    assert [point.low is not None for point in found.points] == [True, True, *[False] * 6]
    told = " ".join(lines(found, [TOP1]))
    assert "Expected best of n trials, val_top1: n = 1: 71.25 % (" in told and "n = 8: 74.90 %." in told
    assert "all subsets of n of the 8 trials, which were drawn independently" in told
    assert "95 % intervals of the jackknife up to n = 2" in told and "looks better than it is" in told


LEARNS = {
    "optuna": {"search": {"name": "optuna", "metric": "val_top1", "mode": "max", "sampler": "tpe"}},
    "starts": {"search": {**RANDOM, "name": "optuna", "sampler": "random", "start": "paper"}},
    "asha": {"scheduler": {"name": "asha"}},
    "target": {"stop": {"at": 74.0}},
}


@pytest.mark.parametrize("given", LEARNS.values(), ids=list(LEARNS))
def test_a_search_whose_trials_depend_on_results_has_the_best_of_its_first_trials(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    found = curve(a_search(tmp_path, VALUES, **given))
    assert found.kind == "running"
    assert [point.value for point in found.points] == pytest.approx([71.2, 71.2, *[74.9] * 6])
    assert all(point.low is None for point in found.points)
    assert "Replicates give one: `tskd-tune sweep FILE --replicates 5`" in " ".join(lines(found, [TOP1]))


@pytest.mark.parametrize("scheduler", ["fifo", {"name": "fifo"}])
def test_optunas_random_sampler_draws_independently(tmp_path: Path, scheduler: Any) -> None:
    search = {"name": "optuna", "sampler": "random", "start": None}
    assert curve(a_search(tmp_path, VALUES, search, scheduler=scheduler)).kind == "expected"


def test_trials_without_a_value_count_with_the_worst_and_the_report_says_so(tmp_path: Path) -> None:
    found = curve(a_search(tmp_path, ["failed", 70.0, "stopped", 72.0]))
    assert (found.trials, found.without_value, found.worst) == (4, 2, 70.0)
    assert found.points[0].value == pytest.approx(70.5)
    said = (
        "2 of 4 trials without a final value (failed, stopped or unfinished) count with the worst value that was seen"
    )
    assert said in " ".join(lines(found, [TOP1]))


def test_a_trial_that_lacks_a_seed_has_no_value_and_one_cut_off_by_the_budget_is_no_trial(tmp_path: Path) -> None:
    folder = a_search(tmp_path, [70.0, 72.0, 74.0])
    rows = folder.rows()
    lacking = [row for row in rows if row.key != ("00001", 2)]
    factories.write_rows(folder, lacking)
    assert curve(folder).without_value == 1
    cut = [row.model_copy(update={"cut": True, "status": "stopped"}) if row.run == "00001" else row for row in rows]
    factories.write_rows(folder, cut)
    assert (curve(folder).trials, curve(folder).without_value) == (2, 0)


def test_an_interval_beyond_the_scale_is_cut_and_marked(tmp_path: Path) -> None:
    found = curve(a_search(tmp_path, [99.0, 10.0, 98.0, 97.0, 1.0]))
    assert found.points[0].high > 100
    told = lines(found, [TOP1])
    assert " to 100.00*);" in told[0] and any(line.startswith("* Student's interval goes beyond") for line in told)
    assert not any(line.startswith("*") for line in lines(curve(a_search(tmp_path, VALUES, name="in")), [TOP1]))


def test_of_an_error_the_smallest_value_is_the_best(tmp_path: Path) -> None:
    search = {"name": "random", "metric": "val_loss", "mode": "min"}
    found = curve(a_search(tmp_path, [3.0, 2.0, 4.0, "failed"], search, LOSS))
    assert found.points[-1].value == 2.0 and found.worst == 4.0
    assert "n = 4: 2.000" in lines(found, [LOSS])[0]


def test_other_objectives_are_named(tmp_path: Path) -> None:
    search = {**RANDOM, "objectives": {"val_top1": "max", "seconds": "min"}}
    found = curve(a_search(tmp_path, VALUES, search))
    assert "which this curve leaves out: seconds." in " ".join(lines(found, [TOP1]))


@pytest.mark.parametrize(
    ("search", "values"),
    [({"name": "grid"}, VALUES), (RANDOM, ["failed"]), ({**RANDOM, "metric": "test_top1"}, VALUES)],
    ids=["grid", "no value", "the test set"],
)
def test_without_validation_values_of_a_search_there_is_no_curve(
    tmp_path: Path, search: dict[str, Any], values: list[Any]
) -> None:
    folder = a_search(tmp_path, values, search)
    found = summary(folder)
    assert found.curve is None and lines(None, []) == [] and as_json(found)["curve"] is None
    assert "Search curve" not in markdown(found) and 'id="curve"' not in html(folder, found)
    assert as_csv(found, "search") == ""


def test_the_curve_is_in_every_form_of_a_report(tmp_path: Path) -> None:
    folder = a_search(tmp_path, VALUES)
    found = summary(folder)
    assert "## Search curve\n\n- Expected best of n trials, val\\_top1: n = 1: 71.25 %" in markdown(found)
    page = html(folder, found)
    assert 'id="curve"' in page and "figure-curve" in page
    told: Any = as_json(found)["curve"]
    assert (told["kind"], told["trials"], len(told["points"])) == ("expected", 8, 8)
    result = CliRunner().invoke(app, ["report", str(folder.path), "--format", "csv", "--what", "search"])
    first, *rest = result.stdout.splitlines()
    assert first == "n,best,low,high,metric,mode,kind,searches,trials,without_value" and len(rest) == 8
    assert rest[-1].split(",")[2:] == ["", "", "val_top1", "max", "expected", "1", "8", "0"]


def test_long_curves_are_thinned_and_tables_show_few_points() -> None:
    assert counts_to(3) == [1, 2, 3]
    found = counts_to(5000)
    assert found[0] == 1 and found[-1] == 5000 and len(found) <= 100
    assert milestones(found)[-2:] == [milestones(found)[-2], 5000] and len(milestones(found)) < 16
