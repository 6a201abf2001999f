"""How much a model of a search explains of unseen trials, against the formula, and for noise."""

from __future__ import annotations

import random

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tskd_tune.reports.findings import surrogate
from tskd_tune.reports.findings.surrogate import Explained, explained

UNIT, CHOICE = FloatDistribution(0, 1), CategoricalDistribution(["x", "y", "z"])


def drawn(trials: int, seed: int) -> list[list[tuple[object, object]]]:
    chance = random.Random(seed)
    return [[(chance.random(), UNIT), (chance.choice("xyz"), CHOICE)] for _ in range(trials)]


def test_r2_is_that_of_predictions_of_trials_that_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = [1.0, 2.0, 4.0, 9.0, 3.0], [1.5, 2.5, 3.0, 7.0, 3.5]
    monkeypatch.setattr(surrogate, "_predicted", lambda points, values: np.array(found))
    mean = sum(truth) / 5
    by_hand = 1 - sum((a - b) ** 2 for a, b in zip(truth, found, strict=True)) / sum((a - mean) ** 2 for a in truth)
    told = explained([[(value, UNIT)] for value in truth], truth)
    assert told.r2 == pytest.approx(by_hand) and told.low < told.r2 < told.high <= 1


def test_a_trial_does_not_help_to_predict_itself() -> None:
    points = drawn(40, 1)
    values = [0.0] * 40
    values[7] = 100.0
    found = surrogate._predicted(np.asarray([surrogate._encoded(point) for point in points]), np.asarray(values))
    assert found[7] == 0.0, "the forests that predict trial 7 have seen zeros only"


def test_a_choice_is_encoded_without_an_order() -> None:
    assert surrogate._encoded([(0.25, UNIT), ("y", CHOICE)]) == [0.25, 0.0, 1.0, 0.0]


def test_an_effect_is_explained_and_noise_is_not_and_the_bits_repeat() -> None:
    def effect(seed: int) -> Explained:
        points = drawn(40, seed)
        return explained(points, [3 * point[0][0] + (point[1][0] == "y") for point in points])

    assert effect(1).is_something and effect(1).r2 > 0.8 and effect(1) == effect(1)
    chance = random.Random(0)
    noise = [explained(drawn(40, seed), [chance.gauss(70, 0.3) for _ in range(40)]) for seed in range(8)]
    assert sum(one.is_something for one in noise) == 0
