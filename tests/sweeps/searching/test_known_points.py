"""What a search learns from trials that diverged, and that it trains no experiment twice."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.parsing import parse
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.distinct import too_few
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace

SAMPLERS = ["tpe", "gp", "nsga2", "qmc", "random"]
RANGE = "{x: {uniform: [0, 1]}}"
# Without a review `k` has no effect, and two of the labels of `lr` stand for one number.
TWINS = "{k: {choice: [3, 6, 9]}, review: {choice: {no: null, yes: 1}}, lr: {choice: {a: 0.1, b: 0.1, c: 0.2}}}"
DISTINCT = 2 + 3 * 2


def resolve(point: Point) -> TrialConfig:
    experiment = dict(point.experiment)
    if "review" in experiment and experiment["review"] is None:
        del experiment["k"]
    return TrialConfig(point.label, point.values, experiment)


def search(text: str = RANGE, goals: dict[str, str] | None = None, journal: Path | None = None, **options: Any) -> Any:
    space = SearchSpace(parse(text, "the test").data)
    return SEARCHERS.build("optuna", space, resolve, goals or {"val_top1": "max"}, journal, **options)[0]


def done(value: float, **others: Any) -> dict[str, Any]:
    return {"epoch": 2, "epochs": 3, "val_top1": value, **others}


def diverged(**others: Any) -> dict[str, Any]:
    return {"epoch": 0, "epochs": 3, "val_top1": -1e9, "failed": "epoch 0: the loss is not finite", **others}


def tell(one: Any, *results: dict[str, Any] | None) -> None:
    """Suggest a trial for each result and end it so; None stays running."""
    begun = len(one._running) + len(one._finished)
    for number, result in enumerate(results, start=begun):
        one.suggest(f"t{number}")
        if result is not None:
            one.on_trial_complete(f"t{number}", result)


def shown(one: Any) -> list[tuple[str, Any]]:
    return [(trial.state.name, trial.values) for trial in one.study.trials]


# Divergence


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_diverged_trial_is_the_worst_that_was_measured_also_when_a_worse_one_follows(sampler: str):
    one = search(sampler=sampler, trials=9)
    tell(one, diverged())
    assert shown(one) == [("FAIL", None)], "nothing was measured that it could be worse than"
    tell(one, done(50.0))
    assert shown(one) == [("COMPLETE", [50.0]), ("COMPLETE", [50.0])]
    tell(one, done(70.0), done(30.0))
    assert shown(one)[0] == ("COMPLETE", [30.0])
    assert one.study.trials[0].user_attrs["diverged"] == "epoch 0: the loss is not finite"
    assert one.study.best_value == 70.0


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_of_several_objectives_it_is_the_worst_in_each(sampler: str):
    def costs(seconds: float) -> list[dict[str, Any]]:
        return [{"cost": {"train_seconds": seconds}}]

    one = search(goals={"val_top1": "max", "seconds": "min"}, sampler=sampler, trials=15)
    tell(one, done(50.0, rows=costs(3)), diverged(rows=costs(0.1)), done(70.0, rows=costs(9)))
    assert shown(one)[1] == ("COMPLETE", [50.0, 9.0])
    tell(one, *(done(60.0 + place, rows=costs(5)) for place in range(9)))
    assert one.suggest("another") is not None


@pytest.mark.parametrize(("value", "is_diverged"), [(math.nan, True), (math.inf, True), (None, False)])
def test_a_number_that_is_not_finite_is_a_divergence_and_a_missing_one_is_not(value: float | None, is_diverged: bool):
    one = search(trials=3)
    tell(one, done(40.0), {"epoch": 2, "epochs": 3} | ({} if value is None else {"val_top1": value}))
    assert shown(one)[1] == (("COMPLETE", [40.0]) if is_diverged else ("FAIL", None))


def test_a_trial_that_broke_stays_failed():
    one = search(trials=3)
    tell(one, done(40.0), None)
    one.on_trial_complete("t1", error=True)
    assert shown(one)[1] == ("FAIL", None)


def test_where_a_scheduler_stops_trials_a_diverged_one_is_below_the_stopped_ones():
    """Tpe ranks stopped trials below complete ones, so a complete one with the worst value would pass for good."""
    one = search(sampler="tpe", trials=4)
    tell(one, done(50.0), {"epoch": 0, "epochs": 3, "val_top1": 5.0}, diverged())
    assert shown(one)[1:] == [("PRUNED", [5.0]), ("PRUNED", None)]
    two = search(sampler="gp", trials=4)
    tell(two, done(50.0), {"epoch": 0, "epochs": 3, "val_top1": 5.0}, diverged())
    assert shown(two)[2] == ("COMPLETE", [5.0]), "gp knows complete trials only"


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", pytest.param("gp", marks=pytest.mark.long)])
@pytest.mark.parametrize("shape", [lambda x: 50 + 10 * x, lambda x: 50 - 100 * (x - 0.3) ** 2])
def test_a_search_avoids_what_diverges(sampler: str, shape: Any):
    """The best point lies just below the edge, or well inside; above x = 0.5 every trial diverges."""
    halves = [0, 0]
    for seed in range(3):
        options = {"population": 8} if sampler == "nsga2" else {}
        one = search("{x: {uniform: [0, 1]}, y: {uniform: [0, 1]}}", sampler=sampler, trials=60, seed=seed, **options)
        for place in range(60):
            x = one.suggest(f"t{place}")["experiment"]["x"]
            halves[place >= 30] += x > 0.5
            one.on_trial_complete(f"t{place}", diverged() if x > 0.5 else done(shape(x)))
    assert halves[1] <= 0.5 * 3 * 30, "told as failed, tpe proposes what diverges in 80 to 98 % of the second half"


# Points that are known


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_every_trial_trains_another_experiment(sampler: str, at_once: int):
    one = search(TWINS, sampler=sampler, trials=DISTINCT)
    trained: dict[str, str] = {}
    numbers = []
    for place in range(DISTINCT):
        config = one.suggest(f"t{place}")
        numbers.append(config["number"])
        trained[f"t{place}"] = json.dumps(config["experiment"], sort_keys=True)
        if place >= at_once - 1:
            one.on_trial_complete(f"t{place - at_once + 1}", done(10.0 + place))
    assert len(set(trained.values())) == DISTINCT
    assert numbers == list(range(DISTINCT)), "folders are numbered without gaps"
    assert one.suggest("more") == Searcher.FINISHED


def test_a_search_ends_when_every_experiment_has_its_trial():
    one = search(TWINS, sampler="tpe", trials=DISTINCT + 1)
    for place in range(DISTINCT):
        one.suggest(f"t{place}")
        one.on_trial_complete(f"t{place}", done(10.0 + place))
    with pytest.warns(UserWarning) as caught:
        assert one.suggest("more") == Searcher.FINISHED
    assert [str(warning.message) for warning in caught] == [
        "search.trials: is 9, but the space has no experiment that differs from the 8 of this search; the search ends"
        " with 8 trials"
    ]


def test_a_proposal_of_a_known_experiment_is_told_what_is_known_of_it():
    starts = [{"x": label, "y": 0.5} for label in "abc"]
    one = search("{x: {choice: {a: 1, b: 1, c: 1}}, y: {uniform: [0, 1]}}", start=starts, trials=3)
    first = one.suggest("t0")
    second = one.suggest("t1")
    assert (first["experiment"], second["number"]) == ({"x": 1, "y": 0.5}, 1)
    assert second["experiment"] != first["experiment"]
    one.on_trial_complete("t0", done(40.0))
    one.on_trial_complete("t1", done(60.0))
    echoes = [trial for trial in one.study.trials if trial.user_attrs.get("same_as") == "t0"]
    assert [trial.value for trial in echoes if trial.state == TrialState.COMPLETE] == [40.0]


def test_a_random_search_draws_no_experiment_twice():
    space = SearchSpace(parse(TWINS, "the test").data)
    listed, _ = SEARCHERS.build("random", space, resolve, {"val_top1": "max"}, None, trials=DISTINCT)
    experiments = [json.dumps(listed.suggest(f"t{place}")["experiment"], sort_keys=True) for place in range(DISTINCT)]
    assert len(set(experiments)) == DISTINCT
    with pytest.raises(InputError, match=r"search.trials: is 9, but only 8 different experiments were found"):
        SEARCHERS.build("random", space, resolve, {"val_top1": "max"}, None, trials=DISTINCT + 1)


SWEEP = {
    "experiment": {
        "task": {"name": "digits", "train": 100, "validation": 50, "batch_size": 32},
        "student": {"name": "resnet8"},
        "review": None,
        "training": {"epochs": 3, "lr": {"choice": {"a": 0.05, "b": 0.1, "c": 0.1}}},
    }
}


@pytest.mark.parametrize("name", ["optuna", "random"])
@pytest.mark.parametrize(
    ("trials", "problem"),
    [
        (4, "search.trials: is 4, but the space has 3 points"),
        (3, "search.trials: is 3, but the 3 points of the space are 2 different experiments ('lr=c' is the"),
        (2, None),
    ],
)
def test_check_refuses_more_trials_than_experiments(name: str, trials: int, problem: str | None):
    problems = check(Sweep.read({**SWEEP, "search": {"name": name, "trials": trials}}))
    assert [found[: len(problem or "")] for found in problems] == ([] if problem is None else [problem])


def test_points_are_drawn_from_a_space_that_cannot_be_listed():
    space = SearchSpace(parse("{epochs: {choice: [1, 2, 3, 4]}, y: {uniform: [0, 1]}}", "the test").data)

    def of_its_epochs(point: Point) -> Experiment:
        experiment = {**SWEEP["experiment"], "training": {"epochs": point.values["epochs"], "lr": 0.1}}
        return Experiment.read(experiment)

    problem = too_few(space, 5, of_its_epochs)
    assert problem is not None
    assert problem.startswith("search.trials: is 5, but the points of the space are 4 different experiments ('")
    assert problem.endswith("; lower `search.trials` to 4")
    assert too_few(space, 4, of_its_epochs) is None
