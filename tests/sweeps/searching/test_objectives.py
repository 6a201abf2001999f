"""What a search may judge by, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.run import start
from tskd_tune.sweeps.searching.objectives import value_of

TWO = {"val_top1": "max", "seconds": "min"}


def sweep(tiny: dict[str, Any], scheduler: str = "fifo", **search: Any) -> Sweep:
    review = {**tiny["review"], "lambda": {"loguniform": [0.1, 100.0]}}
    return Sweep.read(
        {
            "experiment": {**tiny, "review": review},
            "seeds": [1, 2],
            "search": {"name": "optuna", "trials": 4, **search},
            "scheduler": scheduler,
        }
    )


def test_one_metric_is_the_objective_where_there_are_not_several(tiny_document: dict[str, Any]) -> None:
    assert sweep(tiny_document).goals == {"val_top1": "max"}, "the task's headline metric"
    assert sweep(tiny_document, metric="val_loss").goals == {"val_loss": "min"}, "the task says what is better"
    assert sweep(tiny_document, metric="val_loss", mode="max").goals == {"val_loss": "max"}


def test_a_run_writes_metric_and_mode_out(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, metric="val_loss")
    written = given.resolved()
    assert (given.search.mode, written.search.metric, written.search.mode) == (None, "val_loss", "min")
    assert written.resolved() is written and written.goals == given.goals


def test_the_first_validation_metric_leads(tiny_document: dict[str, Any]) -> None:
    search = sweep(tiny_document, objectives={"seconds": "min", "val_loss": "min", "val_top1": "max"}).search
    assert (search.metric, search.mode) == ("val_loss", "min")
    assert list(search.goals().items()) == [("seconds", "min"), ("val_loss", "min"), ("val_top1", "max")]


def test_what_is_written_is_read_back(tiny_document: dict[str, Any]) -> None:
    given = sweep(tiny_document, objectives=TWO)
    assert Sweep.read(given.plain()).search == given.search
    old = sweep(tiny_document).plain()
    del old["search"]["objectives"]
    assert Sweep.read(old).search.objectives is None, "a run of an older version"


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (
            {"objectives": {"val_top1": "max", "test_top1": "max"}},
            "'test_top1' is neither a metric of the validation set",
        ),
        ({"objectives": {"val_top1": "max"}}, "needs two or more, got 1"),
        ({"objectives": {}}, "needs two or more, got 0"),
        ({"objectives": {"seconds": "min", "memory": "min"}}, "seconds and memory are costs; add a metric"),
        ({"objectives": TWO, "metric": "val_loss"}, "give metric or objectives, not both"),
        ({"objectives": TWO, "mode": "min"}, "give mode or objectives, not both"),
        ({"objectives": {"val_top1": "most", "seconds": "min"}}, "objectives.val_top1"),
        (
            {"metric": "test_top1"},
            "search.metric: must be a metric of the validation set, such as val_loss, got 'test_top1'",
        ),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    tiny_document: dict[str, Any], search: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        sweep(tiny_document, **search)
    assert sentence in str(error.value)


def test_a_scheduler_judges_one_metric(tiny_document: dict[str, Any]) -> None:
    assert check(sweep(tiny_document, objectives=TWO, sampler="nsga2")) == []
    (problem,) = check(sweep(tiny_document, "asha", objectives=TWO))
    assert problem.startswith(
        "scheduler: 'asha' compares trials by one metric, but search.objectives has 2 (val_top1, seconds)"
    )
    assert check(sweep(tiny_document, "asha")) == []


def test_a_check_finds_what_the_searcher_would_refuse(tiny_document: dict[str, Any]) -> None:
    (problem,) = check(sweep(tiny_document, sampler="nsga2", startup_trials=2))
    assert "search.startup_trials" in problem
    (problem,) = check(sweep(tiny_document, start=[{"review.lamda": 1.0}]))
    assert "there is no search parameter 'review.lamda'; did you mean 'review.lambda'" in problem


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
def test_a_metric_that_the_task_does_not_measure_is_refused_before_training(
    tiny_document: dict[str, Any], scheduler: str
) -> None:
    said = "the task does not measure 'val_top'; did you mean 'val_top1'? known: val_loss, val_top1"
    assert check(sweep(tiny_document, scheduler, metric="val_top", mode="max")) == [f"search.metric: {said}"]
    several = sweep(tiny_document, objectives={"val_top": "max", "seconds": "min"}, sampler="nsga2")
    assert check(several) == [f"search.objectives: {said}"]
    grid = {"experiment": tiny_document, "search": {"name": "grid", "metric": "val_top"}, "seeds": [1]}
    assert check(Sweep.read(grid)) == [f"search.metric: {said}"]


def test_an_objective_is_read_off_what_a_trial_reports() -> None:
    rows = [
        {"cost": {"train_seconds": 2.0, "seconds": 9.0, "peak_memory_bytes": 5}},
        {"cost": {"train_seconds": 4.0, "seconds": 9.0, "peak_memory_bytes": 8}},
    ]
    result = {"val_top1": 50, "val_loss": math.nan, "seconds": 0.1, "rows": rows}
    assert (value_of("val_top1", result), value_of("val_loss", result), value_of("val_f1", result)) == (
        50.0,
        None,
        None,
    )
    assert (value_of("seconds", result), value_of("memory", result)) == (3.0, 8.0)
    rows[0]["cost"]["peak_memory_bytes"] = None  # type: ignore[assignment]
    assert (value_of("memory", result), value_of("seconds", {})) == (None, None)


@pytest.mark.slow
def test_a_search_for_two_objectives_whole(a_ray: None, tiny_document: dict[str, Any], tmp_path: Path) -> None:
    """It is looked at while it runs, and ends with a front that its rows and its study agree on."""
    looks: list[dict[str, Any]] = []

    def look(event: Event) -> None:
        if event.what == "epoch":
            looks.append(run_status(RunFolder.open(tmp_path / "two")).plain())

    given = sweep(tiny_document, objectives=TWO, sampler="nsga2", start=[{"review.lambda": 7.0}])
    folder = start(given, "two", tmp_path, look, track=False)
    rows = folder.rows()
    assert len(rows) == 8 and {row.status for row in rows} == {"done"}
    assert {row.point["review.lambda"] for row in rows if row.run == "00000"} == {7.0}

    trained = [look["epochs"]["trained"] for look in looks]
    assert trained == sorted(trained) and trained[-1] >= 4 * 2 * 6 - 1
    assert all(sum(look["trials"][state] for state in ("waiting", "running", "done")) == 4 for look in looks)
    assert looks[0]["trials"]["done"] == 0 and any(look["trials"]["running"] for look in looks)
    last = run_status(folder).plain()
    assert last["finished"] and {each["state"] for each in last["each"]} == {"done"}

    found = summary(folder)
    assert last["front"] == as_json(found)["pareto"][0]["front"] != []

    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(folder.path / "study.journal")))
    study = optuna.load_study(study_name="sweep", storage=storage)
    told = {f"{trial.user_attrs['number']:05d}": trial.values for trial in study.trials}
    ours = {point["run"]: list(point["values"].values()) for point in as_json(found)["pareto"][0]["points"]}
    assert ours == {run: pytest.approx(values) for run, values in told.items()}
    front = {f"{trial.user_attrs['number']:05d}" for trial in study.best_trials}
    assert {point["run"] for point in as_json(found)["pareto"][0]["points"] if point["on_front"]} == front
