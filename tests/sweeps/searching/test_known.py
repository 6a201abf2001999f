"""What a resume knows of a search from the run's own records alone, and what a searcher makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

import factories
from factories import a_cost
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.known import Trainings, known_trials
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace

SPACE = """
review: {choice: {none: null, tskd: {k: {choice: [3, 6]}, lambda: {loguniform: [0.1, 100]}}}}
momentum: {uniform: [0.8, 0.95]}
"""
EPOCHS = 2


def a_row(config: dict[str, Any], seed: int, value: float | None, **over: Any) -> Row:
    facts: dict[str, Any] = {
        "point": config["point"],
        "metrics": {"val_top1": value, "loss": 1.0},
        "cost": a_cost(2.0, train_seconds=1.0),
        "experiment": {"seed": seed},
    }
    return factories.a_row(f"{config['number']:05d}", seed, config["arm"], planned=EPOCHS, **(facts | over))


def searcher(sampler: str, **over: Any) -> Any:
    def describe(point: Point) -> TrialConfig:
        return TrialConfig(point.label, point.values, point.experiment)

    space = SearchSpace(yaml.safe_load(SPACE))
    options = {"trials": 12, "sampler": sampler, "seed": 1, **over}
    return SEARCHERS.build("optuna", space, describe, {"val_top1": "max"}, None, **options)[0]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run", "sweep", {"seeds": [1, 2]}, expected=24)


def trained(folder: RunFolder, sampler: str, count: int, **over: Any) -> list[dict[str, Any]]:
    """Let an earlier process end so many trials, all but the last three, of which one broke and two were cut off."""
    one = searcher(sampler, **over)
    configs = [one.suggest(f"t{number}") for number in range(count)]
    for config in configs:
        seeds, run = [1, 2], f"{config['number']:05d}"
        folder.begin(Begun(run=run, arm=config["arm"], point=config["point"], seeds=seeds, epochs=EPOCHS))
    for config in configs[:-3]:
        lines = [{"seed": s, "epoch": e, "val_top1": 50.0 + e, "seconds": 1.0} for s in (1, 2) for e in range(EPOCHS)]
        folder.append_history(f"{config['number']:05d}", lines)
        factories.write_rows(folder, [*folder.rows(), a_row(config, 1, 50.0), a_row(config, 2, 52.0)])
    broke = {"status": "failed", "broke": True, "reason": "boom", "epochs": 1}
    factories.write_rows(folder, [*folder.rows(), *(a_row(configs[-3], seed, 1.0, **broke) for seed in (1, 2))])
    return configs


@pytest.mark.parametrize("sampler", ["tpe", "gp", "qmc", "nsga2", "random"])
def test_a_search_that_is_told_anew_trains_first_what_has_not_ended_and_draws_no_point_twice(
    folder: RunFolder, sampler: str
) -> None:
    before = trained(folder, sampler, 8)
    known = known_trials(folder, [1, 2])
    assert sorted(known) == list(range(8)) and [number for number in known if known[number].end is None] == [5, 6, 7]
    one = searcher(sampler)
    one.take_up(known)
    again = []
    while (config := one.suggest(f"new-{len(again)}")) != one.FINISHED:
        again.append(config)
    assert again[:3] == before[5:], "the same points under the same numbers"
    assert [config["number"] for config in again[3:]] == [8, 9, 10, 11]
    points = [repr(sorted(config["point"].items())) for config in [*before, *again[3:]]]
    assert len(set(points)) == 12
    told = [trial for trial in one.study.trials if trial.state == TrialState.COMPLETE]
    assert [(trial.number, trial.value) for trial in told] == [(number, 51.0) for number in range(5)]
    assert told[0].intermediate_values == {0: 50.0, 1: 51.0}


def test_another_point_takes_the_place_of_a_trial_of_which_nothing_is_left(folder: RunFolder) -> None:
    before = trained(folder, "tpe", 6)
    known = known_trials(folder, [1, 2])
    del known[1], known[4]
    one = searcher("tpe")
    one.take_up(known)
    again = []
    while (config := one.suggest(f"new-{len(again)}")) != one.FINISHED:
        again.append(config)
    assert again[:2] == [before[3], before[5]]
    assert [config["number"] for config in again[2:]] == list(range(6, 14)), "twelve in all, with 0 and 2"


def test_starting_points_are_tried_once(folder: RunFolder) -> None:
    start = [{"review": "none", "momentum": 0.9}, {"review": "none", "momentum": 0.85}, {"momentum": 0.81}]
    before = trained(folder, "tpe", 5, start=start)
    for sofar in (1, 2, 5):
        one = searcher("tpe", start=start)
        one.take_up({number: trial for number, trial in known_trials(folder, [1, 2]).items() if number < sofar})
        momenta = [config["point"]["momentum"] for place in range(5) if (config := one.suggest(f"{place}"))]
        wanted = [0.9, 0.85, 0.81][sofar if sofar < 3 else 3 :]
        assert [value for value in momenta if value in wanted] == wanted
        assert before[0]["point"]["momentum"] == 0.9 and 0.9 not in momenta


def test_a_listed_search_leaves_out_what_has_ended(folder: RunFolder) -> None:
    space = SearchSpace({"k": {"choice": [1, 2, 3, 4]}})

    def build() -> Any:
        def describe(point: Point) -> TrialConfig:
            return TrialConfig(point.label, point.values, point.experiment)

        return SEARCHERS.build("random", space, describe, {"val_top1": "max"}, None, trials=4)[0]

    before = build()
    configs = [before.suggest(f"t{place}") for place in range(4)]
    factories.write_rows(folder, [a_row(configs[1], seed, 1.0) for seed in (1, 2)] + [a_row(configs[2], 1, 1.0)])
    one = build()
    one.take_up(known_trials(folder, [1, 2]))
    assert [one.suggest(str(place))["number"] for place in range(3)] == [0, 2, 3]
    assert one.suggest("more") == one.FINISHED


def test_a_training_keeps_the_number_of_the_trial_that_began_it(folder: RunFolder) -> None:
    folder.begin(Begun(run="00004", arm="a", seeds=[1]))
    folder.begin(Begun(run="00005", arm="b", seeds=[1]))
    config = {"number": 7, "arm": "c", "point": {}}
    factories.write_rows(folder, [a_row(config, 2, None, status="failed", broke=True, reason="boom")])
    found = Trainings(folder, ["a", "b", "c"])
    known = [found.find("x", arm, seed) for arm, seed in (("a", 1), ("b", 1), ("c", 2), ("c", 1))]
    assert [(one.number, one.ended) if one else None for one in known] == [(4, False), (5, False), (7, False), None]


def begin(folder: RunFolder, run: str, arm: str, trained: Experiment, **over: Any) -> None:
    facts = {"identity": identity(trained), "experiment": trained.plain(), **over}
    folder.begin(Begun(run=run, arm=arm, seeds=[1], **facts))


def test_a_training_is_found_by_what_it_trains(folder: RunFolder, tiny: Callable[..., Experiment]) -> None:
    plain, other = tiny(review=None), tiny(review=None, training={"lr": 0.2})
    begin(folder, "00000", "old name", plain)
    begin(folder, "00001", "kept", plain)
    found = Trainings(folder, ["new name", "kept"])
    for arm, number in (("new name", 0), ("kept", 1)):
        training = found.find(identity(plain), arm, 1)
        assert training is not None and training.number == number
    assert found.find(identity(other), "kept", 1) is None, "the arm trains something else now"
    assert found.find(identity(plain), "kept", 2) is None


def test_records_of_a_version_that_digested_otherwise_are_compared_by_their_experiment(
    folder: RunFolder, tiny: Callable[..., Experiment]
) -> None:
    begin(folder, "00000", "a", tiny(), identity="0123456789ab")
    begin(folder, "00001", "b", tiny(), identity="0123456789ab", experiment={"an option": "that is gone"})
    found = Trainings(folder, ["a", "b"])
    assert found.find(identity(tiny()), "a", 1) is not None
    assert found.find(identity(tiny(review=None)), "a", 1) is None
    assert found.find(identity(tiny()), "b", 1) is None
