"""Trainings on a GPU that is only pretended: no GPU is needed. What a GPU alone can show is in test_gpu.py."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import engine_cases
import pytest
import torch
from torch import Tensor, nn

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import tensors
from tskd_tune.testing.pretended_gpu import DeviceError, PretendedGpu, pretended_gpu
from tskd_tune.testing.pretended_streams import memory_of
from tskd_tune.training import checkpoint, optim
from tskd_tune.training.cuda_branches import CudaBranches
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.lockstep import advance
from tskd_tune.training.looking import Aside
from tskd_tune.training.optimizers import OPTIMIZERS
from tskd_tune.training.trainer import Trainer

ADAM = importlib.import_module("torch.optim.adam")  # the package hides its modules
Tiny = Callable[..., Experiment]
SHORT = {"training": {"epochs": 3, "device": "cuda"}, "task": {"train": 28}}
CASES = (
    "reviews, memories that shift, rates that drop", "a generator", "extractors with Adam", "micro-batches",
    "half precision", "channels last", "part of an epoch", "snapshots at the start", "snapshots of the teacher",
    "random memories", "extractors that begin anew",
)  # fmt: skip


# With channels last, a CPU computes frozen networks in fused kernels, which round bfloat16 less often than a GPU does.
PLAIN_KERNELS = {"half precision": {"training": {"channels_last": False}}}


def of(tiny: Tiny, case: str, **over: Any) -> Experiment:
    setting = documents.merge(engine_cases.CASES[case], PLAIN_KERNELS.get(case, {}))
    return tiny(**documents.merge(documents.merge(SHORT, setting), over))


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "a sum": lambda given, other: given + other,
    "joined": lambda given, other: torch.cat([given, other]),
    "a mask of the CPU": lambda given, other: torch.where(other > 0, given, 0.0),
    "a layer that was not moved": lambda given, other: nn.Linear(3, 2)(given),
    "an update of a number of the CPU": lambda given, other: torch.zeros(()).add_(given.sum()),
    "values put at places": lambda given, other: given.index_put_((torch.zeros(1, dtype=torch.long),), other[:1]),
    "places of the CPU": lambda given, other: given.index_select(0, torch.zeros(1, dtype=torch.long)),
    "a tensor of the GPU as an index": lambda given, other: other[given.long()],
    "a generator of the CPU": lambda given, other: torch.rand(3, device="cuda", generator=torch.Generator()),
    "a generator of the GPU": lambda given, other: torch.rand(3, generator=torch.Generator("cuda")),
    "an array": lambda given, other: given.numpy(),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mixes_devices_is_refused(case: str) -> None:
    with pretended_gpu(), pytest.raises(DeviceError):
        REFUSED[case](torch.ones(2, 3, device="cuda"), torch.ones(2, 3))


WAITS: dict[str, Callable[[Tensor], object]] = {
    "a value": lambda given: float(given.sum()),
    "a condition": lambda given: bool(given.any()),
    "a list": lambda given: given.tolist(),
    "to the CPU": lambda given: given.cpu(),
    "to the GPU": lambda given: torch.ones(2).to("cuda"),
    "numbers of Python": lambda given: torch.tensor([1.0], device="cuda"),
    "where": lambda given: given.nonzero(),
    "by a mask": lambda given: given[given > 0],
    "by places of the CPU": lambda given: given[torch.tensor([0])],
    "equal": lambda given: torch.equal(given, given),
}


@pytest.mark.parametrize("case", WAITS)
def test_what_waits_for_a_gpu_is_noted(case: str) -> None:
    with pretended_gpu() as gpu:
        given = torch.ones(2, 3, device="cuda")
        assert not gpu.waits
        WAITS[case](given)
        assert len(gpu.waits) == 1 and "test_pretended_gpu.py" in gpu.waits[0]
        with pytest.raises(AssertionError, match="would wait for the GPU"), gpu.step():
            WAITS[case](given)
        with gpu.step(capturable=False):
            WAITS[case](given)


def test_what_fused_descent_takes_lies_in_memory_as_its_parameter() -> None:
    with pretended_gpu():
        parameter = nn.Parameter(torch.zeros(2, 3, device="cuda"))
        descent = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=True)
        rows = torch.arange(6.0, device="cuda").view(3, 2)
        aside = Aside([descent])
        aside.add((parameter.t() * rows).sum())
        aside.settle(torch.ones((), device="cuda"))
        descent.step()
        assert parameter.grad is not None and torch.equal(parameter.grad, rows.t())
        parameter.grad = rows.t()
        with pytest.raises(DeviceError, match="same strides"):
            descent.step()


def test_values_and_gradients_are_those_of_the_cpu() -> None:
    with pretended_gpu() as gpu:
        given = torch.arange(3.0, device="cuda").requires_grad_()
        with gpu.step():
            (given * torch.ones(()) + given[:1]).square().sum().backward()  # type: ignore[no-untyped-call]
        assert given.grad is not None and given.grad.is_cuda and given.detach().clone().device.type == "cuda"
        assert given.grad.tolist() == [6.0, 2.0, 4.0]
        assert not torch.zeros(1).is_cuda and torch.zeros_like(given).is_cuda


def in_a_stream(gpu: PretendedGpu, act: Callable[[], Any], waits: bool) -> Any:
    stream, own = torch.cuda.Stream(), torch.cuda.current_stream()
    if waits:
        stream.wait_stream(own)
    with torch.cuda.stream(stream):
        found = act()
    if waits:
        own.wait_stream(stream)
    return found


@pytest.mark.parametrize("waits", [True, False])
def test_work_of_streams_that_do_not_wait_races(waits: bool) -> None:
    with pretended_gpu() as gpu:
        given = torch.ones(2, device="cuda")
        in_a_stream(gpu, lambda: given + 1, waits)
        assert bool(gpu.races) != waits
        gpu.races.clear()
        given += 1  # after the work in the stream, which reads it
        assert bool(gpu.races) != waits


@pytest.mark.parametrize("recorded", [True, False])
def test_memory_that_another_stream_uses_is_not_given_anew(recorded: bool) -> None:
    with pretended_gpu() as gpu:
        given, stream = torch.ones(2, device="cuda"), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            given + 1
        if recorded:
            given.record_stream(stream)
        assert memory_of(given) is not None
        del given
        torch.ones(2, device="cuda") + 1
        assert bool(gpu.races) != recorded


def test_a_capture_may_draw_from_registered_generators_alone() -> None:
    with pretended_gpu():
        generator, graph = torch.Generator("cuda"), torch.cuda.CUDAGraph()
        for registers in (False, True):
            if registers:
                graph.register_generator_state(generator)
                with torch.cuda.graph(graph):
                    torch.rand(1, generator=generator, device="cuda")
            else:
                with pytest.raises(DeviceError, match="not registered"), torch.cuda.graph(graph):
                    torch.rand(1, generator=generator, device="cuda")


@pytest.mark.parametrize("case", CASES)
def test_a_training_ends_as_on_the_cpu_and_its_steps_wait_for_nothing(
    tiny: Tiny, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended_gpu() as gpu:
        trainer = build_trainer(of(tiny, case))
        assert isinstance(trainer.engine, GraphEngine) and isinstance(trainer.engine._branches, CudaBranches)
        while not trainer.finished:
            take_an_epoch(trainer, gpu)
        assert trainer.engine.captured > 0
        found = tensors(checkpoint.copied(trainer.state_dict()))
    monkeypatch.setattr(optim, "in_tensors", lambda device: True)
    monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda **_: ["cpu"])
    monkeypatch.setattr(ADAM, "_default_to_fused_or_foreach", lambda *_, **__: (False, True))  # as on a GPU
    plain = build_trainer(of(tiny, case, training={"device": "cpu"}))
    while not plain.finished:
        plain.epoch()
    wanted = tensors(plain.state_dict())
    assert len(found) == len(wanted) and all(map(torch.equal, found, wanted))
    assert [record.numbers for record in trainer.history] == [record.numbers for record in plain.history]


def take_an_epoch(trainer: Trainer, gpu: PretendedGpu) -> None:
    trainer.begin()
    steps, ends = trainer.steps(), False
    kind = next(steps)  # which also sends the order of the epoch
    while not ends:
        place = trainer.kind(trainer.next_epoch, trainer._current.step)
        with gpu.step(not place.look and not kind.look):
            kind, ends = (found := next(steps, None)) or kind, found is None
    trainer.end()


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_steps_on_the_gpu_and_waits_only_if_it_is_not_captured(tiny: Tiny, name: str) -> None:
    schedule = {"name": "cosine", "by": "step", "warmup": {"epochs": 1}}
    over = {"training": {"optimizer": name, "schedule": schedule, "lr": 0.01}}
    with pretended_gpu() as gpu:
        trainer = build_trainer(of(tiny, "no review", **over))
        steps = (trainer.begin(), trainer.steps())[1]
        next(steps)
        with gpu.step(isinstance(trainer.engine, GraphEngine)):
            list(steps)
        assert isinstance(trainer.engine, GraphEngine) == (name not in ("adagrad", "adafactor"))


def test_trainings_that_share_streams_never_race(tiny: Tiny) -> None:
    case = "reviews, memories that shift, rates that drop"
    with pretended_gpu(streams=5) as gpu:  # torch has 32, which five trainings with reviews need
        trainers = [build_trainer(of(tiny, case, seed=seed)) for seed in (1, 2)]
        while not trainers[0].finished:
            advance(trainers)
        assert not gpu.races


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_taps_that_share_an_extractor_never_race(tiny: Tiny, precision: str) -> None:
    over = {"review": {"extractor": {"share": True}}, "training": {"precision": precision}}
    with pretended_gpu() as gpu:
        trainer = build_trainer(of(tiny, "reviews, memories that shift, rates that drop", **over))
        while not trainer.finished:
            trainer.epoch()
        assert not gpu.races
