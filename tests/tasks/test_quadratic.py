"""The parabola keeps the promises of every task, and its loss is the mean squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from tskd_tune import networks
from tskd_tune.contracts import Batch, Classified
from tskd_tune.tasks import TASKS, TaskFacts
from tskd_tune.tasks.regression import Regression
from tskd_tune.testing import TaskContract
from tskd_tune.testing.tasks import CPU


class TestQuadratic(TaskContract):
    component: ClassVar[str] = "quadratic"
    options: ClassVar[Mapping[str, Any]] = {"validation": 6, "train": 70, "test": 5}
    flips: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "batch_size": {"batch_size": 10},
        "train": {"train": 80},
        "validation": {"validation": 7},
        "test": {"test": 4},
        "data_seed": {"data_seed": 1},
    }

    def network(self, facts: TaskFacts) -> nn.Module:
        return networks.build("mlp", facts.outputs, 1, size=1, width=4, depth=3)


def test_the_points_lie_on_the_parabola_and_the_validation_points_are_even():
    task = TASKS.build("quadratic", validation=21)
    feed = task.evaluation("validation", CPU)
    [draw] = feed.draws()
    batch = feed.batch(draw)
    assert torch.allclose(batch.images.flatten(), torch.arange(-10, 11) / 10, atol=1e-6)
    training = task.training(CPU)
    places = torch.cat([training.batch(draw).images for draw in training.draws()]).flatten()
    assert torch.equal(training.targets.flatten(), places.square())
    assert len(places) == 256 and float(places.abs().max()) <= 1 and abs(float(places.mean())) < 0.1


def test_the_loss_and_the_metric_are_the_mean_squared_error():
    given = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64, requires_grad=True)
    output = Classified(given, {}, {}, given)
    batch = Batch(torch.zeros(3, 1, 1, 1), torch.tensor([[0.0], [2.5], [3.0]], dtype=torch.float64), torch.arange(3))
    loss = Regression().losses(output, batch)["task"]
    assert float(loss) == (1 + 0.25 + 1) / 3
    loss.backward()
    assert given.grad is not None
    assert given.grad.flatten().tolist() == [2 * error / 3 for error in (1.0, -0.5, 1.0)]
    meter = Regression().meter(TASKS.build("quadratic").facts())
    for part in (slice(0, 1), slice(1, 3)):
        meter.update(
            Classified(given[part], {}, {}, given[part]), Batch(batch.images, batch.targets[part], batch.indices)
        )
    assert meter.compute() == {"mse": 0.75}
