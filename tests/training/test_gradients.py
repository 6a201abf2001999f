"""An objective may have several losses, of any names; the cosines are with the sum of their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tskd_tune.contracts import Batch, Classified
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.tasks.base import Objective, TaskFacts
from tskd_tune.tasks.classification import Classification
from tskd_tune.training.gradients import gradient_figures
from tskd_tune.training.trainer import Trainer


class Halves(Objective[Classified]):
    """Cross-entropy as two losses of half the weight."""

    def metrics(self, facts: TaskFacts):
        return Classification().metrics(facts)

    def losses(self, output: Classified, batch: Batch):
        (loss,) = Classification().losses(output, batch).values()
        return {"left": loss / 2, "right": loss / 2}

    def meter(self, facts: TaskFacts):
        return Classification().meter(facts)


def trained(experiment: Experiment, halves: bool) -> Trainer:
    task = task_of(experiment)
    task = replace(task, objective=Halves()) if halves else task
    targets = task.training(torch.device("cpu")).targets
    trainer = assemble(experiment, task, teacher_network(experiment, task.facts()), targets)
    for _ in range(3):
        trainer.epoch()
    return trainer


def test_the_losses_of_a_task_may_have_any_names(tiny: Callable[..., Experiment]) -> None:
    one, two = (trained(tiny(), halves).history[-1].numbers for halves in (False, True))
    assert {"loss_left", "loss_right", "grad_norm_left", "grad_norm_right"} <= set(two)
    assert "loss_task" not in two
    assert not {"grad_cosine_left", "grad_cosine_right", "grad_cosine_task"} & set(two)
    assert two["loss_left"] + two["loss_right"] == pytest.approx(one["loss_task"], rel=1e-4)
    assert two["grad_cosine_review"] == pytest.approx(one["grad_cosine_review"], rel=1e-3)
    assert two["grad_norm_others"] == pytest.approx(one["grad_norm_others"], rel=1e-3)


def test_the_cosine_is_with_the_sum_of_the_losses_of_the_task() -> None:
    gradients = {"a": torch.tensor([2.0, 0.0]), "b": torch.tensor([0.0, 2.0]), "review": torch.tensor([1.0, 1.0])}
    found = gradient_figures(gradients, of_task=("a", "b"))
    assert found["grad_cosine_review"] == pytest.approx(1.0)
    assert gradient_figures(gradients, of_task=("a",))["grad_cosine_review"] == pytest.approx(0.5**0.5)
