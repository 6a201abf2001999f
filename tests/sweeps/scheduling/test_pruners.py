"""Pruners of Optuna as schedulers: which trials they stop, what they are refused for, and how a resume goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

import optuna
import pytest
from optuna import pruners
from optuna.trial import TrialState

from tskd_tune.errors import InputError, RunError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.messages.results import EpochMeans, TrialResult
from tskd_tune.sweeps.scheduling.pruning import SeedPruning
from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS, stops_trials
from tskd_tune.sweeps.searching.known import Known
from tskd_tune.sweeps.searching.optuna_parts import UNFIT, classes
from tskd_tune.sweeps.searching.plug_in_errors import ending

EPOCHS, FIRST_REVIEW, TRIALS, SEEDS = 12, 2, 24, range(5)
METRIC, BEST = "val_top1", 7
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "PercentilePruner": {"percentile": 40.0},
    "PatientPruner": {"patience": 1, "wrapped_pruner": "MedianPruner"},
    "ThresholdPruner": {"lower": 50.0},
}


class Trial:
    """What a scheduler takes of a trial of Ray Tune."""

    def __init__(self, number: int):
        self.trial_id, self.config = f"t{number}", {"number": number}


def given(name: str) -> dict[str, Any]:
    return {"name": name, **OPTIONS.get(name, {})}


def scheduler(pruner: Any, mode: str = "max", **options: Any) -> Any:
    return SCHEDULERS.build("optuna", EPOCHS, [[FIRST_REVIEW]], METRIC, mode, pruner=pruner, **options)


@cache
def value(number: int, seed: int, epoch: int) -> float:
    """Metrics rise for five epochs; the levels of trials are random, and that of trial 7 is by far the best."""
    level = 70 if number == BEST else Random(number).uniform(40, 60)
    return level + min(epoch, 5) + Random(f"{number} {seed} {epoch}").gauss(0, 1)


def epoch_of(number: int, epoch: int, mode: str = "max") -> EpochMeans:
    sign = 1 if mode == "max" else -1
    records = [{"seed": seed, "epoch": epoch, METRIC: sign * value(number, seed, epoch)} for seed in SEEDS]
    return EpochMeans(epoch, {METRIC: sum(record[METRIC] for record in records) / len(SEEDS)}, records)


def run(one: Any, numbers: range, mode: str = "max") -> dict[int, int]:
    """Train one trial after the other; return how many epochs each trained."""
    found: dict[int, int] = {}
    for number in numbers:
        for epoch in range(EPOCHS):
            told = {**epoch_of(number, epoch, mode).plain(), "epochs": EPOCHS}
            if epoch + 1 == EPOCHS or one.on_trial_result(None, Trial(number), told) == "STOP":
                one.on_trial_complete(None, Trial(number), told)
                found[number] = epoch + 1
                break
    return found


def known(begun: Mapping[int, int]) -> dict[int, Known]:
    found: dict[int, Known] = {}
    for number, epochs in begun.items():
        results = [epoch_of(number, epoch) for epoch in range(epochs)]
        end = TrialResult(epochs - 1, EPOCHS, [], numbers=results[-1].numbers, done=True)
        found[number] = Known({}, json.loads(json.dumps([vars(one) for one in results])) and results, end)
    return found


@pytest.mark.parametrize("name", sorted(classes("BasePruner")))
@pytest.mark.parametrize("mode", ["max", "min"])
def test_every_pruner_of_optuna_stops_trials_after_their_first_review_and_never_the_best(name: str, mode: str) -> None:
    smaller = {"lower": None, "upper": -50.0} if name == "ThresholdPruner" and mode == "min" else {}
    found = run(scheduler({**given(name), **smaller}, mode), range(TRIALS), mode)
    assert 0 < sum(epochs < EPOCHS for epochs in found.values()) < TRIALS
    assert min(found.values()) > FIRST_REVIEW, "no trial is stopped before its first review"
    assert found[BEST] == EPOCHS
    assert stops_trials("optuna")


@pytest.mark.parametrize("name", sorted(classes("BasePruner")))
def test_a_resumed_pruner_judges_as_if_it_had_run_on(name: str) -> None:
    whole, first, second = (scheduler(given(name)) for _ in range(3))
    unbroken, begun = run(whole, range(TRIALS)), run(first, range(12))
    second.take_up(known(begun))
    assert {**begun, **run(second, range(12, TRIALS))} == unbroken


def test_every_pruner_of_optuna_is_known_or_refused_with_a_reason() -> None:
    assert {*classes("BasePruner"), *UNFIT, "BasePruner"} >= set(pruners.__all__)
    with pytest.raises(InputError, match="scheduler.pruner: 'NopPruner' stops no trial; use scheduler: fifo"):
        scheduler("NopPruner")


@pytest.mark.parametrize("name", ["MedianPruner", "SuccessiveHalvingPruner", "HyperbandPruner"])
def test_decisions_are_those_of_optuna_itself(name: str) -> None:
    """A study of Optuna that reports the same values after the same steps prunes the same trials."""
    resources = {"min_resource": FIRST_REVIEW + 1} if "M" not in name else {}
    resources |= {"max_resource": EPOCHS} if name == "HyperbandPruner" else {}
    study = optuna.create_study(study_name="sweep", pruner=getattr(pruners, name)(**resources), direction="maximize")
    found = {}
    for number in range(TRIALS):
        trial = study.ask()
        for epoch in range(EPOCHS):
            trial.report(epoch_of(number, epoch).numbers[METRIC], epoch + 1)
            found[number] = epoch + 1
            if epoch >= FIRST_REVIEW and epoch + 1 < EPOCHS and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            trial.should_prune()
            study.tell(trial, epoch_of(number, EPOCHS - 1).numbers[METRIC])
    assert run(scheduler(name), range(TRIALS)) == found


def test_a_diverged_trial_is_no_measure_for_others() -> None:
    one = scheduler({"name": "MedianPruner", "n_startup_trials": 1})
    one.on_trial_complete(None, Trial(0), {"epoch": 3, "epochs": EPOCHS, METRIC: -1e9, "failed": "not finite"})
    assert one.on_trial_result(None, Trial(1), {"epoch": 5, "epochs": EPOCHS, METRIC: -5e8}) == "CONTINUE"
    again = {"epoch": 5, "epochs": EPOCHS, METRIC: 1.0}
    assert one.on_trial_result(None, Trial(1), again) == "CONTINUE", "a restored trial repeats an epoch"


@pytest.mark.parametrize(
    ("pruner", "sentence"),
    [
        ("Median", r"scheduler.pruner: 'Median' is no class of optuna.pruners; did you mean 'MedianPruner'"),
        ({"name": "MedianPruner", "startup": 3}, r"'MedianPruner' has no option 'startup'; did you mean 'n_startup_t"),
        ({"name": "MedianPruner", "n_startup_trials": 1.5}, r"scheduler.pruner.n_startup_trials: must be an integer"),
        ("PercentilePruner", r"'PercentilePruner' cannot be built with these options \(TypeError: .*percentile"),
        (
            {"name": "PatientPruner", "patience": 2, "wrapped_pruner": "TPESampler"},
            r"wrapped_pruner: 'TPESampler' is",
        ),
        (
            {"name": "PatientPruner", "patience": 2, "wrapped_pruner": "WilcoxonPruner"},
            "use one of them without the other",
        ),
        ({"name": "WilcoxonPruner", "p_threshold": 0.0}, "p_threshold: is 0, so nothing is ever stopped"),
        ("optuna:Trial", r"scheduler.pruner: 'optuna:Trial' is no pruner of Optuna"),
    ],
)
def test_what_is_wrong_with_a_pruner_is_said(pruner: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        scheduler(pruner)


def test_an_error_of_a_pruner_is_named_as_the_pruners() -> None:
    one = scheduler(f"{__name__}:Breaking")
    with (
        pytest.raises(RunError, match=r"scheduler.pruner: '.*Breaking' failed \(KeyError: 'no such thing', test_prun"),
        ending(one),
    ):
        run(one, range(1))


class Breaking(pruners.BasePruner):
    def prune(self, study: Any, trial: Any) -> bool:
        raise KeyError("no such thing")


# Wilcoxon over seeds


def test_the_wilcoxon_pruner_compares_seeds_after_equal_epochs() -> None:
    one = scheduler("WilcoxonPruner")
    assert isinstance(one, SeedPruning) and one.least_seeds == 4
    assert scheduler({"name": "WilcoxonPruner", "p_threshold": 0.05}).least_seeds == 5

    def told(epoch: int, values: list[float]) -> dict[str, Any]:
        records = [{"seed": seed, "epoch": epoch, METRIC: each} for seed, each in enumerate(values)]
        return {"epoch": epoch, "epochs": EPOCHS, METRIC: sum(values) / len(values), "records": records}

    for epoch in range(EPOCHS):
        best = told(epoch, [50.0 + epoch + seed for seed in range(5)])
        if epoch + 1 < EPOCHS:
            assert one.on_trial_result(None, Trial(0), best) == "CONTINUE"
    one.on_trial_complete(None, Trial(0), best)
    close = [50.0 + 5 + seed - 0.1 for seed in range(5)]
    assert one.on_trial_result(None, Trial(1), told(5, close)) == "STOP", "worse with every seed after as many epochs"
    mixed = [each + sign for each, sign in zip(close, (1, -1, 1, -1, 1), strict=True)]
    assert one.on_trial_result(None, Trial(2), told(5, mixed)) == "CONTINUE", "better with some seeds"
    assert one.on_trial_result(None, Trial(3), told(1, [0.0] * 5)) == "CONTINUE", "before the first review"


def test_too_few_seeds_for_a_wilcoxon_test_are_refused(tiny_document: dict[str, Any]) -> None:
    search = {"name": "random", "trials": 2, "metric": "val_loss", "mode": "min"}
    experiment = {**tiny_document, "training": {**tiny_document["training"], "lr": {"uniform": [0.01, 0.1]}}}
    plain = {"experiment": experiment, "search": search, "scheduler": {"name": "optuna", "pruner": "WilcoxonPruner"}}
    few = Sweep.read({**plain, "seeds": [1, 2, 3]})
    with pytest.raises(InputError, match="seeds: there are 3, but the scheduler 'optuna' tests .* fewer than 4 no"):
        few.scheduler_for(few.space())
    enough = Sweep.read({**plain, "seeds": [1, 2, 3, 4]})
    assert isinstance(enough.scheduler_for(enough.space()), SeedPruning)
