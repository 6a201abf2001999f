"""The engine: what a step waits for, and the sums of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tskd_tune.contracts import Batch, BatchNormStatistics, Classified, Features, Output
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.metrics import Metric
from tskd_tune.networks.base import Network
from tskd_tune.tasks.base import Meter, Objective, TaskFacts
from tskd_tune.training.compute import Compute
from tskd_tune.training.engine import EagerEngine, EngineFactory, Parts
from tskd_tune.training.evaluation import evaluate
from tskd_tune.training.steps import StepKind
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]


class Reads(TorchDispatchMode):
    """Counts how often a value is read off a tensor, for which a GPU would have to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "over",
    [
        {"distiller": "kd"},
        {"distiller": {"name": "review_kd", "warmup": 5}},
        {"distiller": {"name": "crd", "negatives": 4}},
        {"review": {"extractor": {"training": {"decay_when_frozen": True, "warmup_steps": 1, "reset": True}}}},
    ],
)
def test_only_a_look_reads_values(tiny: Tiny, over: dict[str, Any]) -> None:
    trainer = build_trainer(tiny(**over))
    for _ in range(4):
        trainer.begin()
        steps = trainer.steps()
        for _ in range(3):
            with Reads() as reads:
                kind = next(steps)
            assert (reads.count > 0) == kind.look
        assert next(steps, None) is None
        trainer.end()


def test_the_means_are_those_of_all_steps_that_had_the_loss(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(review={"plan": {"review_fraction": 0.7}}))
    trainer.epoch(), trainer.epoch()
    trainer.begin()
    found: dict[str, list[float]] = {}
    for number, draw in enumerate(trainer.feed.draws(trainer._streams)):
        losses = trainer.engine.update(trainer.feed.batch(draw), trainer.kind(2, number))
        for name, loss in losses.items():
            found.setdefault(name, []).append(float(loss))
    means = trainer.engine.means()
    assert list(means) == ["loss", "loss_task", "loss_review"] and len(found["loss_review"]) == 2
    assert means == {name: pytest.approx(sum(values) / len(values), rel=1e-6) for name, values in found.items()}
    trainer.engine.begin()
    assert trainer.engine.means() == {} and trainer.engine.shown() == {}


@dataclass(frozen=True)
class Painted(Output):
    """An output that is not a classification: a picture."""

    features: Mapping[str, Tensor]
    preactivations: Mapping[str, Tensor]
    picture: Tensor

    def detached(self) -> Self:
        return replace(self, picture=self.picture.detach())


class Painter(Network[Painted]):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Painted:
        maps = self.conv(images)
        return Painted({"stage1": maps}, {"stage1": maps}, maps)

    def stage_norms(self) -> Mapping[str, BatchNormStatistics]:
        return {}


class Imitation(Distiller[Painted]):
    needs = frozenset({Need.FEATURES})

    def forward(self, student: Painted, teacher: Painted, batch: Batch) -> Mapping[str, Tensor]:
        return {"imitation": (student.picture - teacher.picture).square().mean()}


class Restoring(Objective[Painted]):
    def metrics(self, facts: TaskFacts) -> tuple[Metric, ...]:
        return (Metric("error", "error", "", "min"),)

    def losses(self, output: Painted, batch: Batch) -> Mapping[str, Tensor]:
        return {"task": (output.picture - batch.images).square().mean()}

    def meter(self, facts: TaskFacts) -> Meter[Painted]:
        return Errors()


class Errors:
    def __init__(self) -> None:
        self.values: list[float] = []

    def update(self, output: Painted, batch: Batch) -> None:
        self.values.append(float((output.picture - batch.images).abs().mean()))

    def compute(self) -> dict[str, float]:
        return {"error": sum(self.values) / len(self.values)}


def test_an_engine_and_an_evaluation_take_the_output_of_any_task(tiny: Tiny) -> None:
    feed = build_trainer(tiny(review=None)).feed
    student, teacher, compute = Painter(), Painter(), Compute(torch.device("cpu"))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    engine = EagerEngine(Parts(student, teacher, Imitation(), None, Restoring(), compute, [optimizer]))
    before = evaluate(student, feed, Errors(), compute)["error"]
    for _ in range(20):
        for draw in feed.draws():
            engine.step(feed, draw, StepKind())
    assert set(engine.means()) == {"loss", "loss_task", "loss_imitation"}
    assert evaluate(student, feed, Errors(), compute)["error"] < before


@pytest.mark.parametrize(("distiller", "is_whole"), [("none", False), ("kd", True)])
def test_a_teacher_that_serves_only_a_review_ends_at_its_last_tap(tiny: Tiny, distiller: str, is_whole: bool) -> None:
    trainer = build_trainer(tiny(distiller=distiller))
    trainer.epoch(), trainer.epoch()
    seen: list[Output] = []
    assert trainer.teacher is not None
    trainer.teacher.register_forward_hook(lambda module, images, output: seen.append(output))
    trainer.epoch()
    assert len(seen) == 3 and all(isinstance(output, Classified if is_whole else Features) for output in seen)


class Counting(EagerEngine[Classified]):
    """Counts its steps."""

    taken = 0

    def update(self, batch: Batch, kind: StepKind) -> dict[str, torch.Tensor]:
        self.taken += 1
        return super().update(batch, kind)


def test_a_training_takes_its_steps_with_the_engine_that_it_is_given(tiny: Tiny) -> None:
    def trainer(engine: EngineFactory[Classified]) -> Trainer:
        made = build_trainer(tiny(review=None))
        parts = (made.task, made.student, made.teacher, made.distiller, made.review)
        return Trainer(*parts, recipe=made.recipe, schedule=made.schedule, compute=made.compute, engine=engine)

    counted, plain = trainer(Counting), build_trainer(tiny(review=None))
    assert isinstance(counted.engine, Counting) and type(plain.engine) is EagerEngine
    assert counted.epoch().numbers == plain.epoch().numbers and counted.engine.taken == 3
