"""Trainings that advance side by side end as each of them ends alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tskd_tune.errors import DivergedError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.lockstep import advance
from tskd_tune.training.record import Record
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
DROPOUT = {
    "student": {"name": "torchvision", "model": "mobilenet_v2"},
    "task": {"size": 32},
    "review": None,
    "training": {"epochs": 2, "lr": 0.001},
}


def same(first: Trainer, second: Trainer) -> bool:
    ours, theirs = first.student.state_dict(), second.student.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def numbers(found: Record | BaseException) -> dict[str, float]:
    assert isinstance(found, Record)
    return dict(found.numbers)


def test_each_ends_as_it_ends_alone(tiny: Tiny) -> None:
    experiments = [tiny(**DROPOUT), tiny(**DROPOUT, seed=2), tiny(distiller="kd", task={"train": 40})]
    alone, together = ([build_trainer(experiment) for experiment in experiments] for _ in range(2))
    for _ in range(2):
        wanted = [trainer.epoch() for trainer in alone]
        found = advance(together)
        assert [numbers(record) for record in found] == [dict(record.numbers) for record in wanted]
    assert all(map(same, alone, together)) and not same(together[0], together[1])


def test_one_that_diverges_does_not_disturb_the_others(tiny: Tiny) -> None:
    good, bad, alone = tiny(review=None), tiny(review=None, training={"lr": 1e20}), tiny(review=None)
    trainers, other = [build_trainer(bad), build_trainer(good)], build_trainer(alone)
    ended = False
    for _ in range(3):
        diverged, fine = advance(trainers) if not ended else (None, advance(trainers[1:])[0])
        ended = ended or isinstance(diverged, DivergedError)
        assert numbers(fine) == dict(other.epoch().numbers)
    assert ended and same(trainers[1], other)


@pytest.mark.parametrize("others", [0, 1])
def test_an_epoch_that_was_begun_goes_on(tiny: Tiny, others: int) -> None:
    whole, cut, *more = (build_trainer(tiny()) for _ in range(2 + others))
    cut.begin()
    next(cut.steps())
    resumed = build_trainer(tiny())
    resumed.load_state_dict(cut.state_dict())
    assert numbers(advance([resumed, *more])[0]) == dict(whole.epoch().numbers)
    assert same(resumed, whole)


def test_the_turn_tells_which_training_broke_and_all_stop(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = [build_trainer(tiny(review=None, seed=seed)) for seed in (1, 2, 3)]
    taken: list[int] = []

    def broken(feed: object, draw: object, kind: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(trainers[1].engine, "step", broken)
    with pytest.raises(RuntimeError, match="no such kernel"):
        advance(trainers, lambda trainer: taken.append(trainer.schedule.seed))
    assert taken == [1, 2] and not any(trainer.history for trainer in trainers)


def test_the_others_go_on_where_they_survive_an_exception(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    trainers = [build_trainer(tiny(review=None, seed=seed)) for seed in (1, 2, 3)]
    alone, kernel = build_trainer(tiny(review=None, seed=3)), RuntimeError("no such kernel")

    def broken(feed: object, draw: object, kind: object) -> None:
        raise kernel

    monkeypatch.setattr(trainers[1].engine, "step", broken)
    first, second, third = advance(trainers, survives=lambda error: error is kernel)
    assert second is kernel and isinstance(first, Record)
    assert numbers(third) == dict(alone.epoch().numbers) and same(trainers[2], alone)
    assert advance(trainers[1:2], survives=lambda error: True) == [kernel]


def test_an_epoch_leaves_the_global_generators_as_they_were(tiny: Tiny) -> None:
    trainers = [build_trainer(tiny(review=None, seed=seed)) for seed in (1, 2)]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    advance(trainers)
    advance(trainers[:1])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_nothing_is_advanced_by_nothing() -> None:
    assert advance([]) == []
