"""Schedules of the learning rate: torch's values, a warm-up before them, and the rate that the history has."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.recipe import Recipe

LENGTH = 10


def recipe(schedule: Any, **training: Any) -> Recipe:
    document = {"task": "digits", "student": "resnet8", "review": None}
    found = Experiment.read({**document, "training": {"epochs": LENGTH, "schedule": schedule, **training}})
    return found.training.recipe()


def of_torch(make: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule, found = make(optimizer), []
    for _ in range(LENGTH):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return found


LR = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ({"name": "cosine", "floor": 0.1}, lambda one: LR.CosineAnnealingLR(one, LENGTH, eta_min=0.01)),
        ("linear", lambda one: LR.LinearLR(one, 1.0, 0.0, LENGTH)),
        ({"name": "exponential", "factor": 0.5}, lambda one: LR.ExponentialLR(one, 0.5)),
        ("constant", lambda one: LR.ConstantLR(one, 1.0)),
        ("steps", lambda one: LR.MultiStepLR(one, [6, 8, 9])),
        (
            {"name": "cosine", "warmup": {"epochs": 4, "from": 0.2}},
            lambda one: LR.SequentialLR(one, [LR.LinearLR(one, 0.2, 1.0, 4), LR.CosineAnnealingLR(one, 6)], [4]),
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_the_rates_are_torchs(schedule: Any, make: Any) -> None:
    found = recipe(schedule)
    assert [found.rate(epoch) for epoch in range(LENGTH)] == pytest.approx(of_torch(make), rel=1e-6)


def test_milestones_count_from_the_first_epoch_also_with_a_warm_up() -> None:
    found = recipe({"name": "steps", "warmup": {"epochs": 2, "from": 0.5}}, milestones=[1, 5])
    assert [found.rate(epoch) for epoch in (0, 1, 2, 5)] == pytest.approx([0.05, 0.0075, 0.01, 0.001])


def test_a_warm_up_may_end_within_an_epoch() -> None:
    found = recipe({"name": "steps", "by": "step", "warmup": {"epochs": 0.25, "from": 0.2}}, milestones=[2])
    rates = [found.rate(epoch) for epoch in (0, 0.125, 0.25, 1.75, 2)]
    assert rates == pytest.approx([0.02, 0.06, 0.1, 0.1, 0.01])


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        ({"schedule": {"name": "steps", "warmup": {"epochs": 0.5}}}, "warmup.epochs: 0.5 ends within an epoch"),
        ({"schedule": "cosine", "milestones": [2]}, "milestones: applies only to schedule: steps, but.*'cosine'"),
        ({"schedule": "linear", "gamma": 0.5}, "gamma: applies only to schedule: steps"),
        ({"schedule": {"name": "constant", "by": "step"}}, "schedule.by: step changes nothing with 'constant'"),
        (
            {"schedule": {"name": "linear", "warmup": {"epochs": 10}}},
            "warmup.epochs: 10 is not less than the 10",
        ),
        ({"optimizer": "adam", "nesterov": True}, "nesterov: applies only to optimizer: sgd, but.*'adam'"),
        ({"optimizer": {"name": "adam", "betas": [0.9]}}, "optimizer.betas: "),
        ({"optimizer": "muon"}, "optimizer: 'muon' cannot train here: it takes matrices only"),
        ({"optimizer": "AdamW"}, "optimizer: 'AdamW' is not among the optimizers; did you mean 'adamw'"),
    ],
)
def test_options_that_do_not_fit_are_refused(training: dict[str, Any], sentence: str) -> None:
    document = {"task": "digits", "student": "resnet8", "review": None, "training": {"epochs": LENGTH, **training}}
    with pytest.raises(InputError, match=sentence):
        Experiment.read(document)


def test_a_preset_sets_no_option_of_sgd_or_of_steps_for_others() -> None:
    document = {"preset": "official", "task": "cifar100", "student": "shufflenet_v1", "teacher": "resnet56"}
    other = Experiment.read({**document, "training": {"optimizer": "adamw", "schedule": "cosine"}})
    assert (other.training.lr, other.training.nesterov, other.training.milestones) == (1e-3, False, None)
    assert Experiment.read(document).training.lr == 0.02
    lines = other.deviations()
    assert "training.optimizer: adamw (preset: sgd)" in lines and "training.schedule: cosine (preset: steps)" in lines
    assert Experiment.read(other.plain()) == other


def test_rates_by_step_change_within_an_epoch_and_a_resume_is_exact(tiny: Callable[..., Experiment]) -> None:
    schedule = {"name": "cosine", "by": "step", "warmup": {"epochs": 1, "from": 0.1}}
    experiment = tiny(review=None, training={"epochs": 3, "optimizer": "nadam", "schedule": schedule, "lr": 0.01})
    trainer, resumed = build_trainer(experiment), build_trainer(experiment)
    rates = []
    for epoch in range(3):
        trainer.begin()
        for number, _ in enumerate(trainer.steps()):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            if (epoch, number) == (1, 1):
                resumed.load_state_dict(trainer.state_dict())
        trainer.end()
    while not resumed.finished:
        resumed.epoch()
    expected = experiment.training.recipe()
    steps = trainer.task.steps()
    assert rates == pytest.approx([expected.rate(number / steps) for number in range(3 * steps)])
    assert all(one < other for one, other in pairwise(rates[: steps + 1])) and rates[-1] < rates[-2]
    assert [record.lr for record in trainer.history] == [expected.rate(epoch) for epoch in range(3)]
    ones, others = trainer.student.state_dict(), resumed.student.state_dict()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
