"""What tells the teachers of a sweep apart, so that each is prepared once and none is taken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.records.entries.events import Event
from tskd_tune.sweeps.declared.teacher_keys import distinct, key_of, told_apart
from tskd_tune.sweeps.teachers import _named, prepare
from tskd_tune.training.teachers import CACHE_VARIABLE, TeacherCache

Tiny = Callable[..., Experiment]


def given(tiny: Tiny, weights: str, **teacher: object) -> Experiment:
    return tiny(teacher={"weights": weights, **teacher})


def test_teachers_of_one_recipe_are_one_and_other_options_make_another(tiny: Tiny) -> None:
    experiments = [tiny(), tiny(seed=2), tiny(teacher={"training": {"seed": 5}}), tiny(distiller="kd")]
    assert len(distinct(experiments)) == 2


@pytest.mark.parametrize("model", ["resnet18", "resnet34"])
def test_two_models_with_weights_of_the_same_name_are_two_teachers(tiny: Tiny, model: str) -> None:
    published = [
        given(tiny, "torchvision:DEFAULT", name="torchvision", model=name) for name in ("resnet18", "resnet34", model)
    ]
    keys = [key_of(experiment) for experiment in published]
    assert len(set(keys)) == 2 and None not in keys


def test_a_run_without_a_teacher_has_no_key(tiny: Tiny) -> None:
    assert key_of(tiny(review=None)) is None


def test_teachers_of_one_network_have_names_of_their_own(tiny: Tiny) -> None:
    """In the lines of a sweep the second of two teachers of one network was not seen, or moved the bar of the first."""
    alone = distinct([tiny(), tiny(teacher={"name": "resnet8"})])
    assert sorted(told_apart(alone).values()) == ["resnet14", "resnet8"]
    seeds = distinct([tiny(), tiny(teacher={"training": {"seed": 5}}), given(tiny, "/a.pth"), given(tiny, "/b.pth")])
    assert [*told_apart(seeds).values()] == [f"resnet14 ({by})" for by in ("seed 0", "seed 5", "/a.pth", "/b.pth")]
    recipes = distinct([tiny(), tiny(teacher={"training": {"lr": 0.3}})])
    assert [*told_apart(recipes).values()] == [f"resnet14 (key {key[:8]})" for key in recipes]
    models = [given(tiny, "torchvision:DEFAULT", name="torchvision", model=f"resnet{size}") for size in (18, 34)]
    assert len({*told_apart(distinct(models)).values()}) == 2


def test_a_sweep_tells_of_each_teacher_by_its_own_name(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    experiments = distinct([tiny(), tiny(teacher={"training": {"seed": 5}})])
    for experiment in experiments.values():
        obtain(experiment, TeacherCache(), lambda record: None)
    heard: list[Event] = []
    prepare(experiments, {}, heard.append)
    assert [(event.what, event.arm) for event in heard] == [("ready", f"resnet14 (seed {seed})") for seed in (0, 5)]
    _named(heard.append, "resnet14 (seed 5)")(Event("machines", "", reason="waits"))
    assert heard[-1].arm == "", "an event that is of no teacher is passed on as it is"
