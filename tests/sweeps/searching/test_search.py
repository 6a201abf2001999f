"""Searchers and schedulers, driven by hand: what they suggest, what they are told, what survives a kill."""

import json
import logging
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError
from ray.tune.search import Searcher

from tskd_tune.errors import InputError
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)
GRID = "{k: {grid: [3, 6, 9]}, review: {grid: {none: null, tskd: {delta: {grid: [1, 2]}}}}}"
MIXED = """
review:
  choice:
    none: null
    tskd: {k: {choice: [3, 6, 9]}, delta: {int: [1, 15, 2]}, lambda: {loguniform: [0.1, 3000]}}
momentum: {uniform: [0.8, 0.95]}
"""
EPOCHS = 4


def space(text: str) -> SearchSpace:
    return SearchSpace(yaml.safe_load(text))


def listed(experiment: dict[str, Any]) -> list[dict[str, Any]]:
    """The configs of a grid in order, with the number that the searcher gives each."""
    return [replace(describe(point), number=number).plain() for number, point in enumerate(space(experiment).grid())]


def describe(point: Point) -> TrialConfig:
    return TrialConfig(point.label, point.values, point.experiment)


def searcher(name: str, text: str, journal: Path | None = None, mode: str = "max", **options: Any):
    found, trials = SEARCHERS.build(name, space(text), describe, {"val_top1": mode}, journal, **options)
    return found, trials


def result(epoch: int, value: float | None = None, **others: Any) -> dict[str, Any]:
    metrics = {} if value is None else {"val_top1": value}
    return {"epoch": epoch, "epochs": EPOCHS, "training_iteration": epoch + 1, **metrics, **others}


def drain(one: Searcher, prefix: str = "t") -> list[dict[str, Any]]:
    configs = []
    while (config := one.suggest(f"{prefix}{len(configs)}")) != Searcher.FINISHED:
        configs.append(config)
    return configs


def finish(one: Searcher, trial_id: str, value: float) -> None:
    for epoch in range(EPOCHS):
        one.on_trial_result(trial_id, result(epoch, value))
    one.on_trial_complete(trial_id, result(EPOCHS - 1, value))


def mirrored(journal: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(journal)))).trials


def test_importing_the_registries_imports_neither_ray_nor_optuna():
    code = "import sys, tskd_tune.sweeps.searching.search; sys.exit('ray' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[3]).returncode == 0


def test_grid_suggests_every_point_once_in_order():
    one, trials = searcher("grid", GRID)
    assert drain(one) == listed(GRID)
    assert trials == 9
    with pytest.raises(InputError, match="cannot be used in a grid"):
        searcher("grid", MIXED)


def test_random_is_seeded_and_a_longer_list_begins_with_the_shorter():
    short, trials = searcher("random", MIXED, trials=8)
    points = drain(short)
    assert trials == len(points) == 8
    assert drain(searcher("random", MIXED, trials=20)[0])[:8] == points
    assert drain(searcher("random", MIXED, trials=8, seed=1)[0]) != points
    for point in points:
        values = point["point"]
        assert 0.8 <= values["momentum"] <= 0.95
        if values["review"] == "tskd":
            assert values["review.tskd.delta"] in range(1, 16, 2)
            assert 0.1 <= values["review.tskd.lambda"] <= 3000


def test_random_draws_each_domain_evenly():
    points = drain(searcher("random", MIXED, trials=2000)[0])
    ours = [point["point"] for point in points if point["point"]["review"] == "tskd"]
    assert abs(len(ours) / 2000 - 0.5) < 0.04
    logs = [math.log10(values["review.tskd.lambda"]) for values in ours]
    middle = (math.log10(0.1) + math.log10(3000)) / 2
    assert abs(sum(logs) / len(logs) - middle) < 0.15
    assert {values["review.tskd.delta"] for values in ours} == set(range(1, 16, 2))
    assert {values["review.tskd.k"] for values in ours} == {3, 6, 9}


def test_random_never_repeats_a_point():
    text = "{k: {choice: [3, 6, 9]}, delta: {int: [1, 2]}}"
    points = [json.dumps(point["point"]) for point in drain(searcher("random", text, trials=6)[0])]
    assert len(set(points)) == 6
    with pytest.raises(InputError, match=r"search.trials: is 7, but the space has 6 points"):
        searcher("random", text, trials=7)


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_two_points_with_one_identity_are_one_experiment(name: str):
    def of_one_identity(point: Point) -> TrialConfig:
        return replace(describe(point), identity=str(point.values["k"]))

    text = "{k: {choice: [3, 6, 9]}, device: {choice: [cpu, auto]}}"
    found, _ = SEARCHERS.build(name, space(text), of_one_identity, {"val_top1": "max"}, None, trials=3)
    assert sorted(config["identity"] for config in drain(found)) == ["3", "6", "9"]


@pytest.mark.parametrize("name", ["random", "optuna"])
def test_searches_refuse_grid_domains_and_need_trials(name: str):
    with pytest.raises(InputError, match="'grid' needs"):
        searcher(name, GRID, trials=3)
    with pytest.raises(ValidationError, match="trials"):
        searcher(name, MIXED)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "qmc", "random"])
def test_every_sampler_suggests_points_of_the_space(sampler: str):
    one, trials = searcher("optuna", MIXED, sampler=sampler, trials=14)
    names = {hole.name for hole in space(MIXED).holes()}
    for place in range(trials):
        config = one.suggest(f"t{place}")
        values = config["point"]
        assert set(values) <= names
        assert (values["review"] == "tskd") == ("review.tskd.k" in values)
        finish(one, f"t{place}", values["momentum"])
    assert one.suggest("more") == Searcher.FINISHED
    trained = [trial for trial in one.study.trials if "same_as" not in trial.user_attrs]
    assert [trial.state for trial in trained] == [TrialState.COMPLETE] * 14
    logs = {name: found.log for trial in one.study.trials for name, found in trial.distributions.items() if "m" in name}
    assert logs == {"momentum": False, "review.tskd.lambda": True}
    # One distribution a name, which is what importances ask for.
    for name in names:
        assert len({str(trial.distributions[name]) for trial in one.study.trials if name in trial.params}) <= 1


def suggestions(trials: int = 12, mode: str = "max", **options: Any) -> list[dict[str, Any]]:
    one, _ = searcher("optuna", MIXED, mode=mode, trials=trials, **options)
    configs = []
    for place in range(trials):
        configs.append(one.suggest(f"t{place}")["point"])
        finish(one, f"t{place}", configs[-1]["momentum"])
    return configs


def test_every_option_of_optuna_changes_what_is_suggested():
    base = suggestions(startup_trials=4)
    assert suggestions(startup_trials=4) == base
    assert suggestions(startup_trials=4, seed=1) != base
    assert suggestions(startup_trials=11) != base
    assert suggestions(startup_trials=11)[:4] == base[:4]
    assert suggestions(sampler="gp", startup_trials=4, trials=6) != base[:6]
    default = suggestions()
    assert default[:10] == suggestions(startup_trials=11)[:10]
    assert suggestions(mode="min", startup_trials=4) != base


@pytest.mark.parametrize("sampler", ["nsga2", "qmc", "random"])
def test_startup_trials_are_refused_where_there_are_none(sampler: str):
    with pytest.raises(InputError, match=f"search.startup_trials: the sampler '{sampler}' has no random start"):
        searcher("optuna", MIXED, sampler=sampler, trials=3, startup_trials=2)


def test_tpe_goes_where_the_metric_is_good():
    one, _ = searcher("optuna", "{x: {uniform: [0, 1]}}", trials=40)
    for place in range(40):
        x = one.suggest(f"t{place}")["point"]["x"]
        finish(one, f"t{place}", -((x - 0.8) ** 2))
    drawn = [trial.params["x"] for trial in one.study.trials]
    assert sum(abs(x - 0.8) < 0.15 for x in drawn[20:]) >= 12
    assert one.study.best_value == max(trial.value for trial in one.study.trials)


def told(**how: Any) -> optuna.trial.FrozenTrial:
    """Return how one trial is told after two good epochs; ``how`` says how it ends."""
    one, _ = searcher("optuna", MIXED, trials=3)
    one.suggest("t")
    one.on_trial_result("t", result(0, 10.0))
    one.on_trial_result("t", result(1, 20.0))
    one.on_trial_complete("t", **how)
    return one.study.trials[0]


def bunch(last: int, values: dict[int, list[float]], **others: Any) -> dict[str, Any]:
    """Return a result of several epochs: epoch -> the value of each seed."""
    records = [
        {"epoch": epoch, "seed": seed, "val_top1": values[epoch][seed]} for seed in range(2) for epoch in sorted(values)
    ]
    return result(last, sum(values[last]) / 2 if last in values else -1e9, records=records, **others)


def test_epochs_that_are_told_together_are_reported_as_if_each_had_come_alone():
    one, _ = searcher("optuna", MIXED, trials=3)
    one.suggest("t")
    one.on_trial_result("t", bunch(1, {0: [8.0, 12.0], 1: [20.0, 20.0]}))
    one.on_trial_result("t", bunch(1, {0: [8.0, 12.0], 1: [99.0, 99.0]}))  # a restored trial tells all again
    one.on_trial_complete("t", bunch(3, {2: [30.0, 32.0], 3: [40.0, 40.0]}))
    trial = one.study.trials[0]
    assert trial.intermediate_values == {0: 10.0, 1: 20.0, 2: 31.0, 3: 40.0}
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 40.0)


def test_of_a_failed_trial_the_epochs_before_its_failure_are_reported():
    one, _ = searcher("optuna", MIXED, trials=3)
    one.suggest("t")
    one.on_trial_complete("t", bunch(2, {0: [8.0, 12.0], 1: [20.0, 20.0]}, failed="the loss is NaN"))
    trial = one.study.trials[0]
    assert (trial.state, trial.intermediate_values) == (TrialState.FAIL, {0: 10.0, 1: 20.0})


def test_a_finished_trial_is_complete_with_all_its_epochs():
    trial = told(result=result(EPOCHS - 1, 40.0))
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 40.0)
    assert trial.intermediate_values == {0: 10.0, 1: 20.0, 3: 40.0}
    assert trial.user_attrs["number"] == trial.number
    assert trial.user_attrs["label"].startswith("review=")


def test_a_stopped_trial_is_pruned_with_its_last_epoch():
    trial = told(result=result(2, 30.0))
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {0: 10.0, 1: 20.0, 2: 30.0}
    assert trial.value == 30.0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"result": result(3, 5.0, failed="the loss is NaN")}, "the loss is NaN"),
        ({"result": result(3, float("nan"))}, "the last result has no finite 'val_top1'"),
        ({"result": result(3, float("inf"))}, "the last result has no finite 'val_top1'"),
        ({"result": result(3)}, "the last result has no finite 'val_top1'"),
        ({"result": None}, "the last result has no finite 'val_top1'"),
        ({"error": True}, "the trial ended with an error"),
        ({"result": result(3, 5.0), "error": True}, "the trial ended with an error"),
    ],
)
def test_a_failed_trial_is_failed_with_its_reason(how: dict[str, Any], reason: str):
    trial = told(**how)
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs["failed"] == reason
    assert trial.intermediate_values == {0: 10.0, 1: 20.0}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "qmc", "random"])
def test_a_search_does_not_warn_of_what_a_user_cannot_change(sampler: str):
    one, _ = searcher("optuna", "{x: {uniform: [0, 1]}}", sampler=sampler, trials=2)
    finish(one, "t", one.suggest("t")["point"]["x"])


@pytest.mark.filterwarnings("error")
def test_telling_twice_changes_nothing():
    one, _ = searcher("optuna", MIXED, trials=3)
    one.suggest("t")
    one.on_trial_result("t", result(0, 10.0))
    one.on_trial_result("t", result(0, 99.0))
    one.on_trial_result("t", result(1, float("nan")))
    one.on_trial_complete("t", result(3, 40.0))
    one.on_trial_complete("t", result(3, 50.0))
    one.on_trial_result("t", result(3, 50.0))
    one.on_trial_complete("never suggested", result(3, 50.0))
    (trial,) = one.study.trials
    assert trial.value == 40.0
    assert trial.intermediate_values == {0: 10.0, 3: 40.0}


def test_min_and_max_are_the_direction_of_the_study():
    assert searcher("optuna", MIXED, trials=1)[0].study.direction.name == "MAXIMIZE"
    assert searcher("optuna", MIXED, trials=1, mode="min")[0].study.direction.name == "MINIMIZE"


# Several objectives

TWO = {"val_top1": "max", "seconds": "min"}


def costs(*seconds: float, memory: int | None = None) -> list[dict[str, Any]]:
    return [{"cost": {"train_seconds": each, "peak_memory_bytes": memory}} for each in seconds]


def several(goals: dict[str, str], journal: Path | None = None, **options: Any) -> Any:
    return SEARCHERS.build("optuna", space("{x: {uniform: [0, 1]}}"), describe, goals, journal, **options)[0]


def test_several_objectives_are_told_in_their_order_and_directions():
    one = several({"seconds": "min", "val_top1": "max", "memory": "min"}, trials=2, sampler="nsga2")
    one.suggest("a")
    one.on_trial_result("a", result(0, 10.0, rows=costs(1.0, 2.0, memory=5)))
    # The epoch's own seconds stand in a result too; what a trial costs is told by its rows.
    one.on_trial_complete("a", result(EPOCHS - 1, 40.0, rows=costs(3.0, 4.0, memory=7), seconds=0.1))
    (trial,) = one.study.trials
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [3.5, 40.0, 7.0])
    assert [direction.name for direction in one.study.directions] == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"]
    assert (one.metric, one.mode) == ("val_top1", "max"), (
        "every result carries it, as Tune demands of a searcher's metric"
    )


def test_a_trial_without_one_of_its_objectives_fails_with_its_name():
    one = several({"val_top1": "max", "memory": "min"}, trials=1, sampler="nsga2")
    one.suggest("a")
    one.on_trial_complete("a", result(EPOCHS - 1, 40.0, rows=costs(3.0)))
    assert one.study.trials[0].user_attrs["failed"] == "the last result has no finite 'memory'"


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "qmc", "random"])
@pytest.mark.filterwarnings("error")
def test_every_sampler_takes_several_objectives(sampler: str, tmp_path: Path):
    one = several(TWO, tmp_path / "study.journal", trials=13, sampler=sampler)
    for place in range(13):
        x = one.suggest(f"t{place}")["point"]["x"]
        one.on_trial_complete(f"t{place}", result(EPOCHS - 1, x, rows=costs(x * x)))
    assert [trial.state for trial in one.study.trials] == [TrialState.COMPLETE] * 13
    assert len(one.study.best_trials) == 13, "more accurate is always slower here: nothing beats anything"


def test_nsga2_goes_to_the_front():
    """Where x is beyond a half, both objectives get worse with it: the front is x from 0 to 1/2."""

    def train(one: Any, name: str) -> float:
        x = one.suggest(name)["point"]["x"]
        one.on_trial_complete(name, result(EPOCHS - 1, -((x - 0.5) ** 2), rows=costs(x)))
        return x

    one = several(TWO, trials=120, sampler="nsga2", population=10)
    drawn = [train(one, f"t{place}") for place in range(60)]
    assert sum(x <= 0.55 for x in drawn[40:]) > sum(x <= 0.55 for x in drawn[:20])


def generation(trials: int, population: int | None) -> int:
    """Count the trials of the first generation: those that Optuna has not marked with a later one."""
    one = several(TWO, trials=trials, sampler="nsga2", population=population)
    for place in range(trials):
        x = one.suggest(f"t{place}")["point"]["x"]
        one.on_trial_complete(f"t{place}", result(EPOCHS - 1, x, rows=costs(x)))
    marks = [trial.system_attrs.get("NSGAIISampler:generation", 0) for trial in one.study.trials]
    return marks.count(0)


def test_a_short_search_has_generations_too():
    """Optuna's population of 50 would make a search of 40 trials one of random points."""
    assert generation(24, None) == 6
    assert generation(24, 12) == 12
    assert generation(6, None) == 2
    with pytest.raises(InputError, match="search.population: the sampler 'tpe' has no generations"):
        searcher("optuna", MIXED, trials=3, population=5)


# Warm starts


def test_a_search_tries_its_starts_first_and_draws_what_they_leave_open():
    start = [
        {"review": "tskd", "review.tskd.k": 6, "review.tskd.lambda": 10, "review.tskd.delta": 3},
        {"momentum": 0.9},
    ]
    one, trials = searcher("optuna", MIXED, trials=5, start=start)
    first, second, third = drain(one)[:3]
    assert trials == 5 and [config["number"] for config in (first, second, third)] == [0, 1, 2]
    asked = {"review": "tskd", "review.tskd.k": 6, "review.tskd.lambda": 10.0, "review.tskd.delta": 3}
    assert {name: first["point"][name] for name in asked} == asked
    assert 0.8 <= first["point"]["momentum"] <= 0.95
    assert second["point"]["momentum"] == 0.9 != third["point"]["momentum"]
    assert suggestions(start=start)[0] != suggestions()[0]


def test_more_starts_than_trials_are_refused():
    with pytest.raises(InputError, match=r"search.start: lists 2 points, but search.trials is 1"):
        searcher("optuna", MIXED, trials=1, start=[{"momentum": 0.9}, {"momentum": 0.8}])


def test_a_searcher_knows_its_metric():
    one, _ = searcher("optuna", MIXED, trials=1)
    assert (one.metric, one.mode) == ("val_top1", "max")
    assert one.set_search_properties(None, None, {})
    assert one.set_search_properties("val_top1", "max", {})
    assert not one.set_search_properties("val_top1", "min", {})
    assert not one.set_search_properties("test_top1", "max", {})


READER = """
import sys
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
storage = JournalStorage(JournalFileBackend(sys.argv[1]))
for line in sys.stdin:
    study = optuna.load_study(study_name="sweep", storage=storage)
    print(study.directions, study.metric_names, [trial.values for trial in study.trials], flush=True)
"""


def test_a_dashboard_in_another_process_follows_the_search_from_before_its_first_result(tmp_path: Path):
    """It keeps one storage open, as optuna-dashboard does, and must see what is told later; then it looks again."""
    journal = tmp_path / "study.journal"
    one = several(TWO, journal, trials=4, sampler="nsga2")
    one.suggest("a")
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(journal)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None

        def seen() -> str:
            assert reader.stdin is not None and reader.stdout is not None
            reader.stdin.write("look\n")
            reader.stdin.flush()
            return reader.stdout.readline()

        empty = seen()
        assert "MAXIMIZE" in empty and "MINIMIZE" in empty and "['val_top1', 'seconds'] []" in empty
        one.on_trial_complete("a", result(EPOCHS - 1, 40.0, rows=costs(3.0)))
        assert "[[40.0, 3.0]]" in seen()
        with journal.open("ab") as file:  # the driver is just writing the next line
            file.write(b'{"op_code": 4, ')
            file.flush()
            assert "[[40.0, 3.0]]" in seen()
            file.truncate(journal.stat().st_size - len(b'{"op_code": 4, '))
        one.suggest("b")
        one.on_trial_complete("b", result(EPOCHS - 1, 50.0, rows=costs(2.0)))
        assert "[[40.0, 3.0], [50.0, 2.0]]" in seen()
        reader.stdin.close()


def test_the_mirror_holds_what_the_study_holds(tmp_path: Path):
    journal = tmp_path / "study.journal"
    journal.write_text("left behind by another run\n")
    one, _ = searcher("optuna", MIXED, journal, trials=4, mode="min")
    for place, end in enumerate([result(3, 40.0), result(1, 10.0), result(3, failed="diverged")]):
        one.suggest(f"t{place}")
        one.on_trial_complete(f"t{place}", end)
    one.suggest("running")
    copies = mirrored(journal)
    assert [copy.state.name for copy in copies] == ["COMPLETE", "PRUNED", "FAIL"]
    for copy, trial in zip(copies, one.study.trials, strict=False):
        same = ("params", "distributions", "value", "intermediate_values", "user_attrs", "datetime_complete")
        assert all(getattr(copy, name) == getattr(trial, name) for name in same)
    assert (
        optuna.load_study(study_name="sweep", storage=JournalStorage(JournalFileBackend(str(journal)))).direction
        == one.study.direction
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.journal"]


def test_a_mirror_that_cannot_be_written_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").write_text("")
    one, trials = searcher("optuna", MIXED, tmp_path / "file" / "study.journal", trials=3)
    with caplog.at_level(logging.WARNING, logger="tskd_tune"):
        for place in range(trials):
            one.suggest(f"t{place}")
            finish(one, f"t{place}", 1.0)
    assert [record.message.count("the search goes on without it") for record in caplog.records] == [1]
    assert [trial.state.name for trial in one.study.trials] == ["COMPLETE"] * 3


def test_a_mirror_that_vanishes_later_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "run"
    folder.mkdir()
    one, _ = searcher("optuna", MIXED, folder / "study.journal", trials=3)
    one.suggest("a")
    finish(one, "a", 1.0)
    (folder / "study.journal").unlink()
    folder.rmdir()
    for name in ("b", "c"):
        one.suggest(name)
        finish(one, name, 1.0)
    assert [record.message.count("the search goes on without it") for record in caplog.records] == [1]


def test_searchers_are_pickled_whole_as_tune_does_before_it_starts(tmp_path: Path):
    one, _ = searcher("optuna", MIXED, tmp_path / "study.journal", trials=2)
    one.suggest("a")
    finish(one, "a", 1.0)
    again = pickle.loads(pickle.dumps(one))
    again.suggest("b")
    finish(again, "b", 2.0)
    assert [trial.value for trial in mirrored(tmp_path / "study.journal")] == [1.0, 2.0]


def test_registries_say_what_their_options_are():
    assert set(SEARCHERS.names()) == {"grid", "random", "optuna"}
    assert set(SCHEDULERS.names()) == {"fifo", "asha", "hyperband", "median_stopping", "optuna"}
    options = {entry["name"]: set(entry["options"]) for entry in SEARCHERS.describe()}
    assert options == {
        "grid": set(),
        "random": {"trials", "seed"},
        "optuna": {"sampler", "trials", "startup_trials", "population", "start", "seed"},
    }
    options = {entry["name"]: set(entry["options"]) for entry in SCHEDULERS.describe()}
    assert options == {
        "fifo": set(),
        "optuna": {"pruner", "grace"},
        "asha": {"grace", "reduction_factor", "brackets"},
        "hyperband": {"grace", "reduction_factor"},
        "median_stopping": {"grace", "least_trials"},
    }
