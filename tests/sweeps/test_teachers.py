"""What tells the teachers of a sweep apart, so that each is prepared once and none is taken for another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tskd_tune.experiment import Experiment
from tskd_tune.sweeps.declared.teacher_keys import distinct, key_of

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
