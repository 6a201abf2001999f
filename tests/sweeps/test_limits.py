"""A budget or a target ends a sweep early: what is kept, what is said, and how the run goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.cli.reading.status import lines
from tskd_tune.errors import InputError
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.events import Event
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps import budgets, limits
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.settings import Budget
from tskd_tune.sweeps.limits import Limits
from tskd_tune.sweeps.run import resume, start

sys.path.insert(0, str(Path(__file__).parent))
from stand_in import Cluster, installed

EPOCHS = 3
HOUR = 3600.0
Time = Callable[[Event], None]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return installed(monkeypatch)


@pytest.fixture
def grid(tiny_document: dict[str, Any]) -> dict[str, Any]:
    experiment = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    experiment["training"] = {**tiny_document["training"], "epochs": EPOCHS}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}, "resources": {"concurrent": 2}}


@pytest.fixture
def search(tiny_document: dict[str, Any]) -> dict[str, Any]:
    training = {**tiny_document["training"], "epochs": EPOCHS, "lr": {"loguniform": [0.001, 0.1]}}
    searched = {"name": "optuna", "trials": 5, "startup_trials": 2, "metric": "val_loss", "mode": "min"}
    experiment = {**tiny_document, "training": training}
    return {"experiment": experiment, "seeds": [1], "search": searched, "resources": {"concurrent": 1}}


@pytest.fixture
def hourly(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A listener with which every epoch of a student takes an hour."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(limits, "time", SimpleNamespace(time=lambda: now.seconds))
    monkeypatch.setattr(budgets, "seconds_used", lambda folder: now.seconds)

    def hear(event: Event) -> None:
        now.seconds += HOUR if event.what == "epoch" else 0.0
        heard.append(event)

    heard: list[Event] = []
    hear.heard = heard  # type: ignore[attr-defined]
    return hear


def report(folder: RunFolder) -> str:
    return (folder.path / "report.md").read_text().replace("\\_", "_")


def said(hear: Time) -> list[str]:
    return [event.reason or "" for event in hear.heard if event.what == "note"]  # type: ignore[attr-defined]


def students(folder: RunFolder) -> dict[tuple[str, int], dict[str, torch.Tensor]]:
    return {(row.arm, row.seed): read_state(folder.student_path(row.run, row.seed)).state for row in folder.rows()}


@pytest.mark.parametrize("together", [1, 2])
def test_a_grid_ends_with_its_budget_and_goes_on_to_the_same_students(
    cluster: Cluster, grid: dict[str, Any], hourly: Time, tmp_path: Path, together: int
) -> None:
    grid["resources"] = {"concurrent": 2 // together, "together": together}
    whole = start(Sweep.read(grid), "whole", tmp_path, lambda event: None, track=False)
    folder = start(Sweep.read({**grid, "budget": {"hours": 8}}), "run", tmp_path, hourly, track=False)
    rows = folder.rows()
    cut = [row for row in rows if row.cut]
    assert len(rows) - len(cut) == 2 and len(cut) == 2 and folder.state.expected == 4
    for row in cut:
        assert row.status == "stopped" and not row.ended and row.epochs < EPOCHS
        assert row.reason == "the budget of 8 h is used up"
        assert [line.epoch for line in folder.history(row.run)] == list(range(row.epochs))
    (sentence,) = said(hourly)
    assert sentence == (
        "The budget of 8 h is used up: 2 trainings are unfinished and 0 have not begun. Train on, for example for 2 h,"
        f" with: tskd-tune resume {folder.path} --hours 2"
    )
    assert sentence in report(folder) and sentence in lines(folder, run_status(folder))[-1]
    assert "The verdicts rest on fewer seeds than declared: " in report(folder)
    assert "not counted in any comparison" in report(folder)
    assert lines(folder, run_status(folder))[1].startswith("grid, fifo, at most 8 h; ")
    found = run_status(folder)
    assert not found.finished and found.epochs_left == 4 * EPOCHS - sum(row.epochs for row in rows)

    with pytest.raises(InputError, match=r"its budget of 8 h is used up \(10.00 h\); give it more, .* --hours 2"):
        resume(folder, hourly, track=False)
    resume(folder, hourly, track=False, hours=100)
    assert folder.document()["budget"] == {"hours": pytest.approx(110), "gpu_hours": None}
    again = RunFolder.open(folder.path)
    assert len(again.rows()) == 4 and all(row.status == "done" and not row.cut for row in again.rows())
    assert conclusion(again.store) is None and run_status(again).finished
    assert sentence not in report(folder)
    one, other = students(whole), students(again)
    for key, state in one.items():
        assert all(torch.equal(state[name], other[key][name]) for name in state)


def test_no_trial_begins_after_the_budget(cluster: Cluster, grid: dict[str, Any], hourly: Time, tmp_path: Path) -> None:
    folder = start(Sweep.read({**grid, "budget": {"hours": 1}}), "run", tmp_path, hourly, track=False)
    assert sorted(row.epochs for row in folder.rows()) == [1, 2] and len(folder.trials()) == 2
    assert "2 trainings are unfinished and 2 have not begun" in said(hourly)[0]


def test_a_search_ends_with_its_budget_and_goes_on_as_if_unbroken(
    cluster: Cluster, search: dict[str, Any], hourly: Time, tmp_path: Path
) -> None:
    whole = start(Sweep.read(search), "whole", tmp_path, lambda event: None, track=False)
    folder = start(Sweep.read({**search, "budget": {"hours": 7}}), "run", tmp_path, hourly, track=False)
    assert [(row.status, row.epochs) for row in folder.rows()] == [("done", 3), ("done", 3), ("stopped", 2)]
    assert folder.state.expected == 5
    resume(folder, hourly, track=False, hours=100)
    wanted = [(row.run, row.point, row.metrics["val_loss"]) for row in whole.rows()]
    assert [(row.run, row.point, row.metrics["val_loss"]) for row in folder.rows()] == wanted


def test_a_search_ends_at_its_target_and_searches_on_with_another(
    cluster: Cluster, search: dict[str, Any], hourly: Time, tmp_path: Path
) -> None:
    whole = start(Sweep.read(search), "whole", tmp_path, lambda event: None, track=False)
    second = whole.rows()[1].metrics["val_loss"]
    at = max(second, min(row.metrics["val_loss"] or 0 for row in whole.rows()[:2]))
    search = {**search, "resources": {"concurrent": 2}, "stop": {"at": at}}
    folder = start(Sweep.read(search), "run", tmp_path, hourly, track=False)
    rows = folder.rows()
    assert len(rows) == 2 == folder.state.expected and not any(row.cut for row in rows)
    assert min(row.metrics["val_loss"] for row in rows) <= at
    (sentence,) = said(hourly)
    assert sentence.startswith("Trial 0000") and "reached the target: val_loss is" in sentence
    assert sentence.endswith(
        f"To search on, raise stop.at in {folder.path}/sweep.yaml or remove stop, then: tskd-tune resume {folder.path}"
    )
    assert run_status(folder).finished and sentence in report(folder)
    before = len(cluster.asked)
    resume(folder, hourly, track=False)
    assert len(cluster.asked) == before, "the target is reached, so nothing is trained"
    folder.replace_document({**folder.document(), "stop": None})
    resume(RunFolder.open(folder.path), hourly, track=False)
    assert len(RunFolder.open(folder.path).rows()) == 5 == RunFolder.open(folder.path).state.expected


def test_a_target_is_compared_with_the_last_epoch_of_a_whole_training_only(
    cluster: Cluster, search: dict[str, Any], hourly: Time, tmp_path: Path
) -> None:
    folder = start(Sweep.read({**search, "stop": {"at": -1.0}}), "run", tmp_path, hourly, track=False)
    assert len(folder.rows()) == 5 and not said(hourly)
    search["search"] |= {"mode": "max"}
    folder = start(Sweep.read({**search, "stop": {"at": 0.0, "metric": "loss"}}), "max", tmp_path, hourly, track=False)
    assert [row.status for row in folder.rows()] == ["done"], "every loss is above 0"


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        (
            {"search": {"name": "grid"}, "stop": {"at": 70.0}},
            "stop: a grid compares arms, and a comparison that",
        ),
        ({"budget": {"hours": 0}}, "budget.hours: must be greater than 0, got 0"),
        ({"budget": {"hour": 2}}, "budget: unknown key 'hour'; did you mean 'hours'?"),
        ({"stop": {"metric": "top1"}}, "stop.at: is required but missing"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said(search: dict[str, Any], over: dict[str, Any], sentence: str) -> None:
    search["experiment"]["training"] = {**search["experiment"]["training"], "lr": {"choice": [0.1, 0.2]}}
    with pytest.raises(InputError) as error:
        Sweep.read({**search, **over})
    assert sentence in str(error.value)


def test_a_target_is_for_the_metric_of_the_search(search: dict[str, Any]) -> None:
    problems = check(Sweep.read({**search, "stop": {"at": 70.0, "metric": "top1"}}))
    assert problems == [
        "stop.metric: is top1, but the search compares trials by val_loss; leave stop.metric out, or set search.metric"
    ]
    searched = {"name": "random", "trials": 2, "objectives": {"val_loss": "min", "seconds": "min"}}
    with pytest.raises(InputError, match="stop: search.objectives has several objectives"):
        Sweep.read({**search, "search": searched, "stop": {"at": 1.0}})


def test_gpu_hours_count_each_epoch_once_with_the_share_of_a_gpu() -> None:
    found = Limits(Budget(gpu_hours=1.0), gpus=0.5)
    for epoch, seconds in ((0, HOUR), (0, HOUR), (1, HOUR / 2)):
        found.count("00000", 1, epoch, seconds)
        assert not found.over()
    found.count("00000", 2, 0, HOUR / 2)
    assert found.over() and found.reason == "the budget of 1 GPU hours is used up"


def test_gpu_hours_are_refused_where_trials_take_no_gpu(
    cluster: Cluster, grid: dict[str, Any], hourly: Time, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="budget.gpu_hours: a trial takes no GPU here, .* give budget.hours"):
        start(Sweep.read({**grid, "budget": {"gpu_hours": 1.0}}), "run", tmp_path, hourly, track=False)
    assert not (tmp_path / "run").exists()


def test_the_hours_of_a_run_are_those_of_its_sittings(cluster: Cluster, grid: dict[str, Any], tmp_path: Path) -> None:
    folder = start(Sweep.read(grid), "run", tmp_path, lambda event: None, track=False)
    assert budgets.seconds_used(folder) == pytest.approx(run_status(folder).elapsed, abs=0.5)
    assert budgets.limits_of(Sweep.read({**grid, "budget": {"hours": 1}}), folder, 0.0).over() is False
    assert budgets.limits_of(Sweep.read({**grid, "budget": {"hours": 1e-9}}), folder, 0.0).over() is True
