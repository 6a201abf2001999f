"""What a sweep declares to compare: refused before anything trains where it cannot be."""

from __future__ import annotations

import pytest

from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared import checking
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.settings import Compare
from tskd_tune.sweeps.evidence.extension import Addition, extended

SWEEP = {
    "experiment": {
        "task": {"name": "synthetic", "size": 8, "train": 8, "validation": 4, "test": 4},
        "teacher": {"name": "resnet8"},
        "student": {"name": "resnet8"},
        "training": {"epochs": 2},
        "review": None,
        "choice": {"ce": {}, "kd": {"distiller": {"name": "kd"}}},
    },
    "seeds": [1, 2, 3, 4, 5, 6],
    "search": {"name": "grid"},
}
RANDOM = {"name": "random", "trials": 2}


def test_a_sweep_without_it_has_the_defaults_and_keeps_them():
    sweep = Sweep.read(SWEEP)
    assert sweep.compare == Compare(baseline=None, pairs=None, margin=None, interim=None)
    assert Sweep.read(sweep.plain()) == sweep


def test_an_arm_with_a_seed_of_its_own_is_refused_as_it_would_not_be_trained_with_it():
    arms = {"a": {"seed": 5}, "a again": {"seed": 11}}
    sweep = Sweep.read({**SWEEP, "experiment": {**SWEEP["experiment"], "choice": arms}})
    assert "seed: an arm cannot have its own seed" in "\n".join(check(sweep))


@pytest.mark.parametrize(
    "compare", [{"baseline": "ce"}, {"pairs": [["kd", "ce"]], "margin": 0.1}, {"interim": [5, 6]}, {}]
)
def test_what_can_be_compared_is_no_problem(compare):
    assert check(Sweep.read(SWEEP | {"compare": compare})) == []


@pytest.mark.parametrize(
    ("compare", "sentence"),
    [
        ({"baseline": "ce", "pairs": [["kd", "ce"]]}, "give baseline or pairs, not both"),
        ({"pairs": [["kd", "kd"]]}, "an arm cannot be compared with itself"),
        ({"pairs": [["kd", "ce"], ["ce", "kd"]]}, "two arms are compared twice"),
        ({"pairs": [["kd"]]}, "compare.pairs"),
        ({"margin": 0}, "compare.margin"),
        ({"margin": float("inf")}, "compare.margin"),
        ({"interim": [3, 6]}, "compare.interim"),
        ({"interim": [6, 5]}, "must ascend"),
        ({"sequential": "looks"}, "sequential: looks needs interim"),
        ({"allow": ["epochs"]}, "allow.0: must be a key below task, teacher, student or training, such as training.ep"),
        ({"sequential": "split", "interim": [5, 6]}, "sequential: split does not go with interim"),
        ({"interim": [5, 9]}, "the last analysis is at 9 seeds but 6 are declared"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_read(compare, sentence):
    with pytest.raises(InputError, match=sentence):
        Sweep.read(SWEEP | {"compare": compare})


def test_an_arm_that_is_not_there_is_refused_before_training():
    (problem,) = check(Sweep.read(SWEEP | {"compare": {"baseline": "kl"}}))
    assert problem.startswith("compare: no arm is called 'kl'; did you mean") or "known: ce, kd" in problem


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("training.epoch", "is a key of no arm, so it would allow nothing; did you mean 'training.epochs'? known: tr"),
        ("training.optimizer.nam", "is a key of no arm, so it would allow nothing; did you mean 'training.optimizer.n"),
        ("student.depth", "is a key of no arm, so it would allow nothing; did you mean 'student.name'? known: s"),
        ("teacher.training.epochs", "would allow nothing: how a teacher was made is compared by its weights; known: t"),
    ],
)
def test_a_key_that_would_allow_nothing_is_refused_in_a_grid_and_in_a_search(key, sentence):
    """`training.epoch` in place of `training.epochs` allowed nothing, and was not said before the report."""
    allow = {"compare": {"allow": ["task", "teacher", "teacher.weights", "training.optimizer.name", key]}}
    experiment = {name: value for name, value in SWEEP["experiment"].items() if name != "choice"}
    search = {"experiment": experiment | {"training": {"lr": {"uniform": [0.1, 0.2]}}}, "search": RANDOM}
    for sweep in (SWEEP | allow, SWEEP | search | allow):
        (problem,) = check(Sweep.read(sweep))
        assert problem.startswith(f"compare.allow: '{key}' {sentence}")


def test_a_run_says_how_its_verdicts_allow_for_further_seeds():
    for compare, rule in (({}, "split"), ({"interim": [5, 6]}, "looks"), ({"sequential": "fixed"}, "fixed")):
        written = Sweep.read(SWEEP | {"compare": compare}).resolved()
        assert written.compare.sequential == rule and written.resolved() == written
        if rule != "looks":
            assert extended(written, Addition([9])).compare.sequential == rule
    # A run of an earlier version has no such key: it declared one test of a fixed number of seeds.
    assert extended(Sweep.read(SWEEP), Addition([9])).compare.sequential == "fixed"


def test_the_margin_rule_needs_a_margin_where_there_is_no_default(monkeypatch):
    sweep = Sweep.read(SWEEP | {"compare": {"rule": "margin"}})
    assert check(sweep) == []
    monkeypatch.setattr(checking, "_unit", lambda sweep, space: "points")
    (problem,) = check(sweep)
    assert problem.startswith("compare.rule: 'margin' needs compare.margin")


def test_a_search_compares_nothing():
    search = {"search": RANDOM, "compare": {"interim": [5]}}
    (problem,) = check(Sweep.read(SWEEP | search))
    assert "are ranked, not compared" in problem


def test_points_with_one_label_are_refused():
    lr = {"choice": {"1, momentum=2": 0.1, "1": 0.2}}
    momentum = {"choice": {"2": 0.9, "2, momentum=2": 0.8}}
    training = {"epochs": 2, "lr": lr, "momentum": momentum}
    experiment = {key: value for key, value in SWEEP["experiment"].items() if key != "choice"}
    sweep = Sweep.read({**SWEEP, "experiment": {**experiment, "training": training}})
    (problem,) = check(sweep)
    assert problem.startswith("experiment: 2 points of the grid are called 'lr=1, momentum=2, momentum=2'")
    assert "give their values different labels" in problem
