"""Every option of a sweep, when it is changed, changes something that the run trains, asks for or reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ray import tune

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.settings import Compare, Resources, Wandb
from tskd_tune.sweeps.run import start
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.sweeps.searching.objectives import Search
from tskd_tune.sweeps.searching.search import SEARCHERS, is_exact

sys.path.insert(0, str(Path(__file__).parent))
from stand_in import Cluster, installed

Observed = Callable[[Cluster, RunFolder], object]


def trained(cluster: Cluster, folder: RunFolder) -> object:
    return sorted((row.arm, row.seed, str(row.experiment["training"])) for row in folder.rows())


def asked(name: str) -> Observed:
    return lambda cluster, folder: getattr(cluster.asked[0].tune, name)


def shipped(name: str) -> Observed:
    return lambda cluster, folder: getattr(cluster.asked[0].trainable.shipped_by_driver["shipped"], name)


def resources(cluster: Cluster, folder: RunFolder) -> object:
    return cluster.asked[0].trainable.resources


def bundles(cluster: Cluster, folder: RunFolder) -> object:
    """Return what is reserved for each worker of a trial."""
    found = resources(cluster, folder)
    return found.bundles if isinstance(found, tune.PlacementGroupFactory) else [found]


def shared(cluster: Cluster, folder: RunFolder) -> object:
    return cluster.asked[0].tune.num_samples, {row.cost.together for row in folder.rows()}


def failures(cluster: Cluster, folder: RunFolder) -> object:
    return cluster.asked[0].run.failure_config.max_failures


def verdicts(cluster: Cluster, folder: RunFolder) -> object:
    family = summary(folder).family
    assert family is not None
    return [finding.sentence for finding in family.family.findings], family.declared, family.notes


def controlled(cluster: Cluster, folder: RunFolder) -> object:
    return folder.document()["compare"]["controls"]


def scheduler(cluster: Cluster, folder: RunFolder) -> object:
    return cluster.asked[0].tune.scheduler.debug_string()


def searcher(cluster: Cluster, folder: RunFolder) -> object:
    return type(cluster.asked[0].tune.search_alg.searcher).__name__


def at_once(cluster: Cluster, folder: RunFolder) -> object:
    return cluster.asked[0].tune.search_alg.max_concurrent


WHOLE = {"name": "synthetic", "batch_size": 8, "size": 8, "train": 24, "validation": 8, "test": 8}
ARM = {"task": WHOLE, "student": {"name": "resnet8"}, "review": None, "training": {"epochs": 1, "lr": 0.01}}
# Option -> another value, and what the value changes.
GRID: dict[str, tuple[Any, Observed]] = {
    "experiment": ({**ARM, "choice": {"low": {"training": {"lr": 0.02}}, "high": {}, "top": {}}}, trained),
    "seeds": ([1, 2, 3], trained),
    "search": ({"name": "random", "trials": 1}, asked("num_samples")),
    "scheduler": ("asha", scheduler),
    "controls": (["ce_kl"], trained),
    "arms": ({"mine": {**ARM, "training": {"epochs": 1, "lr": 0.5}}}, trained),
    "callbacks": (["tensorboard"], lambda cluster, folder: (folder.path / "tensorboard").exists()),
    "max_failures": (1, failures),
    "budget": ({"hours": 1e-9}, trained),  # the other budget: tests/sweeps/test_limits.py
    "resources.cpu": (2, resources),
    "resources.gpu": (0.5, resources),
    "resources.workers": (2, bundles),
    "resources.concurrent": (1, at_once),
    "resources.together": (2, shared),
    "compare.baseline": ("high", verdicts),
    "compare.pairs": ([["low", "high"]], verdicts),
    "compare.margin": (50.0, verdicts),
    "compare.allow": (["training.lr"], verdicts),
    "compare.controls": ({"high": "low"}, controlled),
    "compare.added": ([[6]], verdicts),
    "compare.interim": ([5, 6], lambda cluster, folder: len(folder.interim())),
    "compare.sequential": ("fixed", verdicts),
    "compare.rule": ("margin", verdicts),
    "wandb.project": ("a-project", shipped("place")),
    "wandb.entity": ("a-team", shipped("place")),
}
JUDGES: dict[str, tuple[Any, Observed]] = {
    "metric": ("val_loss", shipped("metric")),
    "mode": ("min", shipped("mode")),
    "objectives": ({"val_loss": "min", "seconds": "min"}, shipped("metric")),
}


def options(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        group = {"resources": Resources, "compare": Compare, "wandb": Wandb}.get(name) if not prefix else None
        yield from [f"{prefix}{name}"] if group is None else options(group, f"{name}.")


def test_every_option_stands_in_the_table() -> None:
    assert set(options(Sweep)) == {*GRID, "stop"}, "stop is for searches: tests/sweeps/test_limits.py"
    assert set(Search.model_fields) - {"name"} == set(JUDGES)


def observed(folder: Path, document: dict[str, Any], see: Observed, monkeypatch: pytest.MonkeyPatch) -> object:
    with monkeypatch.context() as patch:
        cluster = installed(patch)
        found = start(Sweep.read(document), "run", folder, lambda event: None, track=False)
        return see(cluster, found)


def changed(document: dict[str, Any], option: str, value: Any) -> dict[str, Any]:
    group, dot, name = option.rpartition(".")
    return {**document, group: {**document.get(group, {}), name: value}} if dot else {**document, option: value}


@pytest.mark.parametrize("option", GRID)
def test_an_option_of_a_sweep_changes_what_the_table_says(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, see = GRID[option]
    seeds = [1, 2, 3, 4, 5, 6] if option.startswith("compare.") or option == "resources.together" else [1]
    document = {
        "experiment": {**ARM, "choice": {"low": {"training": {"lr": 0.001}}, "high": {}}},
        "seeds": seeds,
        "search": {"name": "grid"},
    }
    if option in ("controls", "compare.allow"):
        document["experiment"] |= {"teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}}}
    if option == "compare.allow":  # the arms differ in their distillers and in their rates
        document["experiment"]["choice"]["high"] = {"distiller": "kd"}
    if option == "controls":
        document["experiment"]["training"] = {"epochs": 2, "lr": 0.01}
        review = {"k": 1, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}}
        document["experiment"]["choice"] = {"plain": {}, "tskd": {"review": review}}
    before = observed(tmp_path / "before", document, see, monkeypatch)
    after = observed(tmp_path / "after", changed(document, option, value), see, monkeypatch)
    assert before != after


@pytest.mark.parametrize("option", JUDGES)
def test_what_a_search_judges_by_reaches_the_trials(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, see = JUDGES[option]
    experiment = {**ARM, "training": {"epochs": 1, "lr": {"loguniform": [0.001, 0.1]}}}
    document = {"experiment": experiment, "seeds": [1], "search": {"name": "optuna", "trials": 1}}
    before = observed(tmp_path / "before", document, see, monkeypatch)
    after = observed(tmp_path / "after", changed(document, f"search.{option}", value), see, monkeypatch)
    assert before != after


@pytest.mark.parametrize("name", SEARCHERS.names())
def test_every_searcher_suggests_points_of_the_space_and_takes_up_what_is_known(name: str) -> None:
    """No point twice, one for each trial, with a number of its own; a trial that has ended is not trained again."""
    from ray.tune.search import Searcher

    from tskd_tune.sweeps.messages.results import TrialResult
    from tskd_tune.sweeps.messages.trial_config import TrialConfig
    from tskd_tune.sweeps.searching.known import Known
    from tskd_tune.sweeps.space.search_space import SearchSpace

    space = SearchSpace({"k": {"choice": [1, 2, 3, 4]}})
    given = {} if is_exact(name) else {"trials": 3}

    def build() -> tuple[Any, int]:
        return SEARCHERS.build(
            name,
            space,
            lambda point: TrialConfig(point.label, point.values, point.experiment),
            {"val_loss": "min"},
            None,
            **given,
        )

    one, trials = build()
    assert trials == (4 if is_exact(name) else 3) and (one.metric, one.mode) == ("val_loss", "min")
    configs = [one.suggest(f"t{place}") for place in range(trials)]
    assert [config["number"] for config in configs] == list(range(trials))
    assert len({config["point"]["k"] for config in configs}) == trials
    assert one.suggest("more") == Searcher.FINISHED
    end = TrialResult(0, 1, [], {"val_loss": 1.0})
    again, _ = build()
    again.take_up({0: Known(configs[0]["point"], [], end)}, highest=0)
    left = [again.suggest(f"u{place}") for place in range(trials - 1)]
    assert configs[0]["point"] not in [config["point"] for config in left]
    assert 0 not in [config["number"] for config in left] and again.suggest("more") == Searcher.FINISHED


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_every_scheduler_keeps_the_best_trial_and_waits_for_the_first_review(name: str, mode: str) -> None:
    """Decisions are Tune's words; the best trial is never stopped, and none before every point has reviewed."""
    from stand_in import Trial

    one = SCHEDULERS.build(name, 9, [[2, 5, 8]], "val_loss", mode)
    trials = [Trial(f"t{number}", {"number": number}) for number in range(5)]
    best = 0 if mode == "min" else 4
    for trial in trials:
        one.on_trial_add(None, trial)
    for epoch in range(8):
        for trial in trials:
            number = trial.config["number"]
            told = {"epoch": epoch, "epochs": 9, "val_loss": float(number), "training_iteration": epoch + 1}
            decision = one.on_trial_result(None, trial, told)
            assert decision in ("CONTINUE", "STOP")
            assert decision == "CONTINUE" or (number != best and epoch >= 2)
