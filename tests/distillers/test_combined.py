"""Several distillers at once: the losses of their parts, the union of their needs, the least of their task weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tskd_tune import distillers, networks
from tskd_tune.contracts import Batch, Probe
from tskd_tune.distillers import DISTILLERS, Need, needs_of
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.registry import Component

PARTS = {"kd": {"name": "kd", "temperature": 2.0}, "attention": {"name": "at", "weight": 10.0}}


def component(**options: object) -> Component:
    return DISTILLERS.slot().parse({"name": "combined", **options})


def test_the_losses_are_those_of_its_parts() -> None:
    torch.manual_seed(0)
    student, teacher = networks.build("resnet8", 4), networks.build("resnet14", 4)
    probe = Probe(student.probe(3, 8), teacher.probe(3, 8), 4, torch.arange(8) % 4)
    batch = Batch(torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0]), torch.arange(5))
    outputs = student(batch.images), teacher(batch.images)
    together = DISTILLERS.make(component(parts=PARTS), probe)(*outputs, batch)
    assert list(together) == ["kd", "attention"]
    assert torch.equal(together["kd"], distillers.build("kd", probe, temperature=2.0)(*outputs, batch)["kd"])
    assert torch.equal(together["attention"], distillers.build("at", probe, weight=10.0)(*outputs, batch)["at"])


@pytest.mark.parametrize(("given", "wanted"), [(None, 0.1), (0.7, 0.7)])
def test_a_part_that_lowers_the_tasks_weight_goes_on_lowering_it(given: float | None, wanted: float) -> None:
    torch.manual_seed(0)
    network = networks.build("resnet8", 4)
    probe = Probe(network.probe(3, 8), network.probe(3, 8), 4, torch.arange(8) % 4)
    assert DISTILLERS.make(component(parts=PARTS, task_weight=given), probe).task_weight == wanted


def test_it_needs_what_its_parts_need() -> None:
    assert needs_of(component(parts=PARTS)) == {Need.LOGITS, Need.FEATURES}
    assert needs_of(component(parts={"none": "none"})) == frozenset()


def test_an_experiment_with_parts_keeps_their_options_and_asks_for_a_teacher(tiny: Callable[..., Experiment]) -> None:
    experiment = tiny(distiller={"name": "combined", "parts": PARTS})
    assert experiment.plain()["distiller"]["parts"]["attention"] == {"name": "at", "power": 2, "weight": 10.0}
    assert Experiment.read(experiment.plain()) == experiment
    record = build_trainer(experiment).epoch().numbers
    assert record["loss_kd"] > 0 and record["loss_attention"] > 0


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "distiller.parts: .* at least 1"),
        (
            {"a": {"name": "combined", "parts": {"kd": "kd"}}},
            "distiller.parts.a: 'combined' cannot contain another one",
        ),
        ({"a.b": "at"}, "distiller.parts"),
        ({"a": "atn"}, "distiller.parts.a: 'atn' is not among the distillers; did you mean 'at'"),
    ],
)
def test_what_is_wrong_is_said(tiny: Callable[..., Experiment], parts: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tiny(distiller={"name": "combined", "parts": parts})
