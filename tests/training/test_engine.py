"""The engine: what a step waits for, and the sums of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tskd_tune.contracts import Batch, Classified, Features, Output
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.parts import EngineFactory
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


def test_under_bfloat16_only_networks_and_extractors_are_narrow(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(training={"precision": "bfloat16", "channels_last": True}))
    assert trainer.review is not None
    loss, found = trainer.review.loss, {"maps": set(), "sequences": set(), "predictions": set()}
    loss.transform.register_forward_hook(lambda module, inputs, maps: found["maps"].add((inputs[0].dtype, maps.dtype)))
    for extractor in loss.extractors:
        extractor.register_forward_pre_hook(lambda module, inputs: found["sequences"].add(inputs[0].dtype))
        extractor.register_forward_hook(lambda module, inputs, made: found["predictions"].add(made.dtype))
    records = [trainer.epoch() for _ in range(3)]
    half, single = torch.bfloat16, torch.float32
    assert found == {"maps": {(half, single)}, "sequences": {single}, "predictions": {half}}
    assert 0 < records[-1].numbers["review_loss"] < 10


def test_extractors_keep_the_usual_memory_format(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(training={"channels_last": True}))
    assert trainer.review is not None
    shapes = {name: tensor.shape for name, tensor in trainer.review.loss.state_dict().items() if tensor.ndim == 4}
    assert all(
        trainer.review.loss.state_dict()[name].stride() == torch.empty(shape).stride() for name, shape in shapes.items()
    )


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


def test_a_compiled_student_takes_all_steps_but_looks(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def compiled(network: nn.Module, *, dynamic: bool) -> Callable[[Tensor], Any]:
        assert not dynamic, "the last batch is shorter, and each shape is compiled for itself"
        return lambda images: (seen.append("compiled"), network(images))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    plain, fused = build_trainer(tiny()), build_trainer(tiny())
    fused.engine = EagerEngine(replace(fused.engine.parts, compute=replace(fused.compute, compiles=True)))
    for trainer in (plain, fused):
        for _ in range(3):
            trainer.epoch()
    assert len(seen) == 3 * 3 - 1, "epoch 2 begins with a look"
    assert [record.numbers for record in plain.history] == [record.numbers for record in fused.history]


def test_a_student_can_be_compiled_without_a_break(tiny: Tiny) -> None:
    student = build_trainer(tiny(review=None)).student
    images = torch.randn(4, 3, 8, 8)
    whole = torch.compile(student, dynamic=False, backend="aot_eager", fullgraph=True)
    assert torch.allclose(whole(images).logits, student(images).logits, atol=1e-5)


@pytest.mark.parametrize(
    ("training", "expected"),
    [({}, False), ({"kernels": "fastest"}, True), ({"kernels": "fastest", "compile": "never"}, False)],
)
def test_the_student_is_compiled_with_the_fastest_kernels_of_a_gpu(
    tiny: Tiny, training: dict[str, Any], expected: bool
) -> None:
    options = tiny(training=training).training
    assert options.compiles(torch.device("cuda")) == expected
    assert not options.compute().compiles, "never on a CPU"
