"""Whole sweeps with a stand-in for Ray Tune: grids, searches, resumes, extensions, interim analyses, lost workers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray.tune.search import Searcher
from torch import Tensor

from tskd_tune.contracts import Batch, Classified
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.metrics import Metric
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.registry import Entry
from tskd_tune.sweeps import run as running
from tskd_tune.sweeps import tuning
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.extension import Addition
from tskd_tune.sweeps.machines import growing, machine
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.run import extend, resume, start
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.tasks.base import TASKS, Meter, Objective, Task, TaskFacts
from tskd_tune.tasks.classification import LOSS, Accuracy, Classification
from tskd_tune.tasks.synthetic import synthetic
from tskd_tune.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from stand_in import Cluster, installed

EPOCHS = 3


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return installed(monkeypatch)


@pytest.fixture
def grid(tiny_document: dict[str, Any]) -> dict[str, Any]:
    experiment = {**tiny_document, "choice": {"plain": {"review": None}, "tskd": {}}}
    often = {"checkpoint": {"seconds": 0}}
    experiment["training"] = {**tiny_document["training"], "epochs": EPOCHS, **often}
    return {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}}


def silent(event: Event) -> None:
    pass


def begin(document: dict[str, Any], folder: Path, name: str = "run", **over: Any) -> RunFolder:
    return start(Sweep.read({**document, **over}), name, folder, silent, track=False)


def rows_of(folder: RunFolder) -> dict[tuple[str, int], Row]:
    return {(row.arm, row.seed): row for row in folder.rows()}


def numbers(row: Row) -> dict[str, float | None]:
    return dict(row.metrics)


def test_a_grid_trains_every_point_once_a_seed_as_it_would_alone(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    heard: list[Event] = []
    folder = start(Sweep.read(grid), "run", tmp_path, heard.append, track=False)
    rows = rows_of(folder)
    assert rows.keys() == {(arm, seed) for arm in ("plain", "tskd") for seed in (1, 2)}
    assert {row.status for row in rows.values()} == {"done"} and folder.state.expected == 4
    assert [row.run for row in folder.rows()] == ["00000", "00001", "00002", "00003"], "seed by seed"
    for row in rows.values():
        history = folder.history(row.run)
        assert [(line.seed, line.epoch) for line in history] == [(row.seed, epoch) for epoch in range(EPOCHS)]
    row = rows["tskd", 2]
    alone = build_trainer(Experiment.read(row.experiment))
    while not alone.finished:
        last = alone.epoch()
    assert row.metrics["test_loss"] == last.numbers["test_loss"] and history[-1].number("loss") == last.numbers["loss"]
    kept = read_state(folder.student_path(row.run, 2)).state
    assert all(torch.equal(kept[key], value) for key, value in alone.student.state_dict().items())
    assert [event.what for event in heard].count("epoch") == 4 * EPOCHS
    assert [event.what for event in heard].count("finished") == 4
    assert "tskd" in (folder.path / "report.md").read_text() and (folder.path / "report.html").exists()

    before = folder.rows_path.read_bytes()
    resume(folder, silent, track=False)
    assert folder.rows_path.read_bytes() == before and len(cluster.asked) == 1
    with pytest.raises(InputError, match="exists; resume the run"):
        begin(grid, tmp_path)


def test_a_name_or_storage_that_cannot_be_used_is_refused_before_the_data_are_read(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tskd_tune.sweeps.run._read_data", lambda *_: pytest.fail("the data were read"))
    RunFolder.create(tmp_path, "taken", "sweep", {})
    with pytest.raises(InputError, match="exists; resume the run"):
        begin(grid, tmp_path, "taken")
    with pytest.raises(InputError, match=r"cannot be made \(.* is no folder\); give another --storage"):
        begin(grid, tmp_path / "taken" / "state.json")


def test_what_this_machine_lacks_is_refused_before_the_data_are_read(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tskd_tune.sweeps.run._read_data", lambda *_: pytest.fail("the data were read"))
    monkeypatch.setattr(running, "refuse_here", machine.refuse_here)  # which the stand-in leaves out
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("tskd_tune.sweeps.machines.machine.os.cpu_count", lambda: 2)
    with pytest.raises(InputError, match="resources.cpu: a trial asks for 3, but this machine has 2"):
        begin(grid, tmp_path, resources={"cpu": 3})


def test_arms_that_train_one_experiment_share_no_file(cluster: Cluster, grid: dict[str, Any], tmp_path: Path) -> None:
    plain = {"review": None}
    grid["experiment"]["choice"] = {"plain": plain, "again": plain, "threads": {**plain, "training": {"threads": 2}}}
    folder = begin(grid, tmp_path, seeds=[1])
    rows = rows_of(folder)
    own = rows["plain", 1].identity
    assert [rows[arm, 1].identity for arm in ("again", "threads")] == [f"{own}-2", f"{own}-3"]
    assert len({folder.student_path(row.run, 1) for row in rows.values()}) == 3
    for row in rows.values():
        assert [line.epoch for line in folder.history(row.run)] == [*range(EPOCHS)], "each epoch stands once"
    resume(folder, silent, track=False)
    assert len(cluster.asked) == 1, "nothing is trained again"


@pytest.mark.parametrize(("seconds", "after"), [(0, 1), (0, 5), (30, 5)])
def test_a_grid_that_was_cut_off_goes_on_from_its_checkpoints(
    cluster: Cluster,
    grid: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    after: int,
) -> None:
    grid["experiment"]["training"]["checkpoint"] = {"seconds": seconds}
    whole = rows_of(begin(grid, tmp_path, "whole"))
    cluster.results, cluster.cut_off_after = 0, after
    with pytest.raises(KeyboardInterrupt):
        begin(grid, tmp_path)
    folder = RunFolder.open(tmp_path / "run")
    ended = len(folder.rows())
    assert ended < 4 and (folder.path / "report.md").exists()
    cluster.cut_off_after = None
    begun: list[int] = []
    begins = Trainer.begin
    monkeypatch.setattr(Trainer, "begin", lambda trainer: (begun.append(trainer.next_epoch), begins(trainer))[1])
    resume(folder, silent, track=False)
    left = 4 * EPOCHS - after if seconds == 0 else (4 - ended) * EPOCHS
    assert len(begun) == left, "no epoch that has a checkpoint is trained again"
    rows = rows_of(folder)
    assert {key: numbers(row) for key, row in rows.items()} == {key: numbers(row) for key, row in whole.items()}
    for row in rows.values():
        assert [line.epoch for line in folder.history(row.run)] == list(range(EPOCHS))


@pytest.mark.parametrize("validation", ["last", 2])
def test_a_sweep_that_evaluates_seldom_ends_with_the_same_rows(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path, validation: str | int
) -> None:
    whole = rows_of(begin(grid, tmp_path, "whole", seeds=[1]))
    grid["experiment"]["evaluation"] = {"validation": validation}
    folder = begin(grid, tmp_path, "seldom", seeds=[1])
    rows = rows_of(folder)
    assert {key: numbers(row) for key, row in rows.items()} == {key: numbers(row) for key, row in whole.items()}
    evaluated = [2] if validation == "last" else [1, 2]
    for row in rows.values():
        lines = [line for line in folder.history(row.run) if line.number("val_top1") is not None]
        assert [line.epoch for line in lines] == evaluated
        best = row.best_by("validation")
        assert best is not None and best.epoch in evaluated
        assert f"evaluation.validation: {validation} (preset: every_epoch)" in row.deviations
    searched = {"search": {"name": "optuna", "trials": 2}, "scheduler": "fifo"}
    del grid["experiment"]["choice"]
    grid["experiment"]["training"]["lr"] = {"loguniform": [0.01, 0.1]}
    found = begin(grid, tmp_path, "search", seeds=[1, 2], **searched)
    assert [row.status for row in found.rows()] == ["done"] * 4


def test_a_trial_whose_worker_died_goes_on_and_breaks_when_it_dies_too_often(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    whole = rows_of(begin(grid, tmp_path, "whole"))
    cluster.killed = {1: [1, 2]}
    found = rows_of(begin(grid, tmp_path, "killed"))
    assert numbers(found["tskd", 1]) == numbers(whole["tskd", 1])
    cluster.killed = {1: [1]}
    with pytest.raises(RunError, match="1 failed.*1 of them broke.*\n.*died without a message"):
        begin(grid, tmp_path, "broken", max_failures=0)
    folder = RunFolder.open(tmp_path / "broken")
    assert rows_of(folder)["tskd", 1].broke and rows_of(folder)["tskd", 1].epochs == 1
    resume(folder, silent, track=False)
    again = rows_of(folder)["tskd", 1]
    assert not again.broke and numbers(again) == numbers(whole["tskd", 1])


def test_a_diverged_training_is_a_result_and_is_not_trained_again(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    broken = copy.deepcopy(grid)
    broken["experiment"]["choice"]["plain"]["training"] = {"lr": 1e20}
    with pytest.raises(RunError, match="2 failed.*\n.*the loss is not finite"):
        begin(broken, tmp_path)
    folder = RunFolder.open(tmp_path / "run")
    assert {row.status for (arm, _), row in rows_of(folder).items() if arm == "plain"} == {"failed"}
    with pytest.raises(RunError, match="2 failed"):
        resume(folder, silent, track=False)
    assert len(cluster.asked) == 1


def test_an_extension_trains_what_is_new_and_keeps_the_rest(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    folder = begin(grid, tmp_path)
    before = rows_of(folder)
    extend(folder, Addition(seeds=[7]), silent, track=False)
    after = rows_of(RunFolder.open(folder.path))
    assert after.keys() - before.keys() == {("plain", 7), ("tskd", 7)}
    assert all(after[key] == row for key, row in before.items())
    assert cluster.asked[1].tune.num_samples == 2


def test_a_sweep_with_interim_analyses_stops_when_all_is_decided(
    cluster: Cluster, grid: dict[str, Any], tmp_path: Path
) -> None:
    """One arm diverges from what can be learned, so that the first analysis decides."""
    document = copy.deepcopy(grid)
    document["experiment"] = {**grid["experiment"], "choice": {"good": {}, "bad": {"training": {"lr": 1e-9}}}}
    document["experiment"] |= {"review": None, "teacher": None}
    document["experiment"]["training"] |= {"lr": 0.1}
    over = {"seeds": list(range(1, 9)), "compare": {"interim": [6, 8], "baseline": "bad"}}
    folder = begin(document, tmp_path, **over)
    (decided,) = [record for record in folder.interim() if record["at"] == 6]
    assert decided["verdicts"] and decided["declared"] == [6, 8]
    seeds = 6 if decided["stop"] else 8
    assert len(folder.rows()) == 2 * seeds == folder.state.expected
    assert [asked.tune.num_samples for asked in cluster.asked] == ([12] if decided["stop"] else [12, 4])
    resume(folder, silent, track=False)
    assert len(folder.rows()) == 2 * seeds


class LossOnly(Objective):
    """Measures the loss and nothing else: less is better."""

    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        return (LOSS,)

    def losses(self, output: Classified, batch: Batch) -> Mapping[str, Tensor]:
        return Classification().losses(output, batch)

    def meter(self, facts: TaskFacts) -> Meter:
        return Accuracy((LOSS,))


def loss_only() -> Task:
    """A task whose only metric is the loss."""
    return replace(synthetic(batch_size=8, size=8, train=24, validation=8, test=8), objective=LossOnly())


@pytest.fixture
def search(tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setitem(TASKS._entries, "loss_only", Entry("loss_only", loss_only, "a test"))
    experiment = {**tiny_document, "task": {"name": "loss_only"}, "teacher": None, "review": None}
    experiment["training"] = {"epochs": EPOCHS, "lr": {"loguniform": [1e-6, 0.1]}, "device": "cpu"}
    how = {"name": "optuna", "trials": 7, "startup_trials": 3}
    return {"experiment": experiment, "seeds": [1, 2], "search": how, "scheduler": "asha"}


def study_of(folder: RunFolder) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder.path / "study.journal")))
    return optuna.load_study(study_name="sweep", storage=storage)


def test_where_a_task_measures_a_loss_alone_search_and_scheduler_lower_it(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path
) -> None:
    folder = begin(search, tmp_path)
    written = Sweep.read(folder.document())
    assert (written.search.metric, written.search.mode) == ("val_loss", "min")
    study = study_of(folder)
    assert study.direction.name == "MINIMIZE"
    stopped = {number for number, epochs, by_scheduler in cluster.ended if by_scheduler}
    assert stopped and len(cluster.ended) == 7
    first = {row.run: folder.history(row.run)[0] for row in folder.rows()}
    assert all("val_loss" in line.numbers and "val_top1" not in line.numbers for line in first.values())
    whole: dict[str, float] = {}
    for row in folder.rows():
        if row.status == "done":
            whole[row.run] = whole.get(row.run, 0.0) + (row.metrics["val_loss"] or 0.0) / 2
    assert study.best_value == pytest.approx(min(whole.values()))
    # Of the trials that were compared at the first rung, those that were stopped were the worse.
    losses = {
        int(run): sum((line.number("val_loss") or 0.0) for line in folder.history(run) if line.epoch == 0) / 2
        for run in first
    }
    assert max(losses, key=lambda number: losses[number]) in stopped or 0 not in stopped
    assert min(losses, key=lambda number: losses[number]) not in stopped
    assert "val loss" in (folder.path / "report.md").read_text()


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "median_stopping", "fifo"])
def test_a_search_that_reports_several_epochs_together_decides_the_same(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    for module in (tuning, growing):
        monkeypatch.setattr(module, "capacity", lambda wanted, workers=1: 1)  # several at once end in another order
    search["experiment"]["training"]["epochs"] = 6
    each = begin(search, tmp_path, "each", scheduler=scheduler)
    results, ended = cluster.results, list(cluster.ended)
    monkeypatch.setattr(running, "REPORT_SECONDS", 600.0)
    together = begin(search, tmp_path, "together", scheduler=scheduler)
    fewer = cluster.results - results
    assert cluster.ended[len(ended) :] == ended
    assert {row.key: numbers(row) for row in each.rows()} == {row.key: numbers(row) for row in together.rows()}
    assert [trial.intermediate_values for trial in study_of(each).trials] == [
        trial.intermediate_values for trial in study_of(together).trials
    ]
    assert fewer == results if scheduler == "median_stopping" else fewer < results


@pytest.mark.parametrize("after", [1, 6, 11])
def test_a_search_that_was_cut_off_trains_no_experiment_twice(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path, after: int
) -> None:
    cluster.cut_off_after = after
    with pytest.raises(KeyboardInterrupt):
        begin(search, tmp_path)
    folder = RunFolder.open(tmp_path / "run")
    begun, ended = folder.begun(), {row.key: row for row in folder.rows()}
    cluster.cut_off_after = None
    resume(folder, silent, track=False)
    rows = {row.key: row for row in folder.rows()}
    assert {run for run, _ in rows} == {f"{number:05d}" for number in range(7)} and len(rows) == 14
    assert all(rows[key] == row for key, row in ended.items())
    assert all(rows[run, 1].point == trial.point for run, trial in begun.items()), "what began is trained to its end"
    assert len({row.point["training.lr"] for row in rows.values()}) == 7
    for (run, seed), row in rows.items():
        assert [line.epoch for line in folder.history(run) if line.seed == seed] == list(range(row.epochs))
    told = {trial.user_attrs["number"]: trial.state.name for trial in study_of(folder).trials}
    assert told == {int(run): "COMPLETE" if row.epochs == EPOCHS else "PRUNED" for (run, _), row in rows.items()}


def test_a_search_whose_trials_broke_trains_them_again(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path
) -> None:
    cluster.killed = {2: [0]}
    with pytest.raises(RunError, match="2 of them broke"):
        begin(search, tmp_path, max_failures=0, scheduler="fifo")
    folder = RunFolder.open(tmp_path / "run")
    point = folder.begun()["00002"].point
    resume(folder, silent, track=False)
    rows = {row.key: row for row in folder.rows()}
    assert len(rows) == 14 and not any(row.broke for row in rows.values()) and rows["00002", 1].point == point
    assert len(study_of(folder).trials) == 7


def test_a_search_that_has_trained_every_experiment_is_complete(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check before the sweep, which enumerates a small space."""
    monkeypatch.setattr("tskd_tune.sweeps.declared.checking.too_few", lambda space, trials, resolve: None)
    search["experiment"]["training"]["lr"] = {"choice": {"a": 0.05, "b": 0.1, "c": 0.1}}
    with pytest.warns(
        UserWarning, match="search.trials: is 3, but the space has no experiment that differs from the 2"
    ):
        folder = begin(search, tmp_path, search={**search["search"], "trials": 3}, scheduler="fifo")
    assert len(folder.rows()) == folder.state.expected == 4 and len({row.identity for row in folder.rows()}) == 2


class Twice(Searcher):
    """Somebody's own searcher of Ray Tune, which knows nothing of runs: the same two points for ever."""

    def __init__(self, configs: list[TrialConfig]) -> None:
        super().__init__("val_loss", "min")
        self.configs = [replace(config, number=number).plain() for number, config in enumerate(configs)]

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        return self.configs.pop(0) if self.configs else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pass


def twice(space: Any, describe: Any, goals: Any, journal: Any, *, trials: int = 2) -> tuple[Any, int]:
    """The first two corners."""
    return Twice([describe(point) for point in space.corners()][:2]), trials


def test_a_searcher_of_ones_own_trains_and_says_that_it_cannot_be_resumed(
    cluster: Cluster, search: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SEARCHERS._entries, "twice", Entry("twice", twice, "a test"))
    given = {**search, "search": {"name": "twice"}, "scheduler": "fifo"}
    assert len(begin(given, tmp_path, "whole").rows()) == 4
    cluster.results, cluster.cut_off_after = 0, 2
    with pytest.raises(KeyboardInterrupt):
        begin(given, tmp_path)
    with pytest.raises(InputError, match=r"searcher 'twice' cannot go on with a run that was cut off; make its class"):
        resume(RunFolder.open(tmp_path / "run"), silent, track=False)
