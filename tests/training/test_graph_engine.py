"""Captured steps end with the bits of eager ones. On a CPU a tape stands for a CUDA graph; see also test_gpu.py."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import CASES, LONG, ended, tensors, train_into
from torch import Tensor

from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers.base import Distiller, Need
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment, assembly
from tskd_tune.experiment.assembly import build_teacher
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.branches import Apart, Branches
from tskd_tune.testing.tape import Tape, holding
from tskd_tune.training import checkpoint, engine, optim
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.engines import Graphs, engine_for
from tskd_tune.training.exactness import warning
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.lockstep import advance
from tskd_tune.training.observers import OBSERVERS
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
ADAM = importlib.import_module("torch.optim.adam")  # the package hides its modules


@pytest.fixture(autouse=True)
def _optimizers_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep rates in tensors, as both engines do on a GPU; torch runs these optimizers on a CPU too."""
    monkeypatch.setattr(optim, "in_tensors", lambda device: True)
    monkeypatch.setattr(ADAM, "_get_capturable_supported_devices", lambda **_: ["cpu"])


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    """Build a trainer with either engine."""

    def made(experiment: Experiment, graphs: bool, of: Callable[[Experiment], Trainer] = build_trainer) -> Trainer:
        chosen = (lambda parts: GraphEngine(parts, captures=Tape)) if graphs else EagerEngine
        monkeypatch.setattr(assembly, "engine_for", lambda graphs: lambda parts: holding(chosen(parts)))
        return of(experiment)

    return made


def same(first: Trainer, second: Trainer) -> bool:
    found, wanted = tensors(first.state_dict()), tensors(second.state_dict())
    numbers = [[record.numbers for record in trainer.history] for trainer in (first, second)]
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted)) and numbers[0] == numbers[1]


def tape(trainer: Trainer) -> Tape:
    assert isinstance(trainer.engine, GraphEngine) and isinstance(trainer.engine._capture, Tape)
    return trainer.engine._capture


def of(tiny: Tiny, case: str) -> Experiment:
    over = CASES[case]
    return tiny(**{**LONG, **over, "training": {**LONG["training"], **over.get("training", {})}})


@pytest.mark.parametrize("case", CASES)
def test_captured_steps_end_with_the_bits_of_eager_ones(tiny: Tiny, build: Any, case: str) -> None:
    experiment = of(tiny, case)
    eager, graphs = ended(build(experiment, False)), ended(build(experiment, True))
    assert same(eager, graphs)
    steps = 9 * 4
    assert 1 <= tape(graphs).taken <= 6 and tape(graphs).replayed >= 5
    assert tape(graphs).taken + tape(graphs).replayed <= steps - 4


@pytest.mark.parametrize("case", ["a generator", "extractors with Adam"])
@pytest.mark.parametrize("into", [(5, 0), (5, 2)])
def test_a_resume_ends_with_the_same_bits(
    tiny: Tiny, build: Any, case: str, into: tuple[int, int], tmp_path: Path
) -> None:
    experiment = of(tiny, case)
    whole, cut = ended(build(experiment, False)), build(experiment, True)
    train_into(cut, *into)
    checkpoint.save(cut.state_dict(), tmp_path / "state.pt")
    for resumed in (build(experiment, True), build(experiment, False)):
        resumed.load_state_dict(checkpoint.load(tmp_path / "state.pt"))
        assert same(ended(resumed), whole)


def test_a_trainer_that_goes_back_captures_anew(tiny: Tiny, build: Any) -> None:
    experiment = of(tiny, "extractors with Adam")
    whole, graphs = ended(build(experiment, False)), build(experiment, True)
    states = []
    for _ in range(7):
        graphs.epoch()
        states.append({name: value for name, value in graphs.state_dict().items() if name != "history"})
    assert tape(graphs).replayed > 0
    early = build(experiment, True)
    for _ in range(4):
        early.epoch()
    graphs.load_state_dict(early.state_dict())
    assert same(ended(graphs), whole)


def test_trainings_in_turns_end_as_they_end_alone(tiny: Tiny, build: Any) -> None:
    experiments = [of(tiny, "a generator"), of(tiny, "extractors that begin anew")]
    alone = [ended(build(experiment, False)) for experiment in experiments]
    together = [build(experiment, True) for experiment in experiments]
    while not together[0].finished:
        advance(together)
    assert all(map(same, together, alone))


@pytest.mark.parametrize("method", ["plain", "soteacher", "sftn"])
def test_a_teacher_is_trained_with_the_same_bits(tiny: Tiny, build: Any, method: str) -> None:
    recipe = {"epochs": 4, "lr": 0.05, "milestones": [3], "method": method}
    experiment = tiny(teacher={"training": recipe}, task={"train": 28})
    eager, graphs = (ended(build(experiment, captured, build_teacher)) for captured in (False, True))
    assert same(eager, graphs) and tape(graphs).replayed > 0


def test_observers_find_the_gradient_of_each_step(tiny: Tiny, build: Any) -> None:
    experiment, found = of(tiny, "reviews, memories that shift, rates that drop"), []
    for captured in (False, True):
        trainer = build(experiment, captured)
        trainer.observers.append(OBSERVERS.build("gradient_norms"))
        found.append([record.numbers["gradient_max"] for record in ended(trainer).history])
    assert found[0] == found[1]


def test_two_steps_of_a_kind_are_eager_the_third_is_captured_and_a_look_never(tiny: Tiny, build: Any) -> None:
    trainer, seen = build(tiny(training={"epochs": 6}, task={"train": 48}), True), []
    while not trainer.finished:  # six steps per epoch; reviews in epochs 2 and 5
        trainer.begin()
        for _ in trainer.steps():
            seen.append((tape(trainer).taken, tape(trainer).replayed))
        trainer.end()
    now = [tuple(new - old for old, new in zip(*pair, strict=True)) for pair in pairwise([(0, 0), *seen])]
    steps = "".join({(0, 0): "e", (1, 0): "c", (0, 1): "r"}[step] for step in now)
    epochs = [steps[start : start + 6] for start in range(0, len(steps), 6)]
    assert epochs == ["eecrrr", "rrrrrr", "eeecrr", "rrrrrr", "rrrrrr", "errrrr"]


class Reading(Distiller[Classified]):
    """Waits for the device in each step."""

    needs = frozenset({Need.LOGITS})

    def forward(self, student: Classified, teacher: Classified, batch: Batch) -> Mapping[str, Tensor]:
        return {"reading": student.logits.square().mean() * float(teacher.logits.detach().mean())}


def test_a_step_that_reads_is_refused_when_it_is_captured(tiny: Tiny, build: Any) -> None:
    trainer = build(tiny(review=None, distiller="kd"), True)
    trainer.engine.parts = replace(trainer.engine.parts, distiller=Reading())
    with pytest.raises(RunError, match=r"training\.graphs: a captured step reads a value"):
        trainer.epoch()


def test_without_a_gpu_steps_are_eager_and_the_reason_is_kept(tiny: Tiny) -> None:
    auto = build_trainer(tiny(review=None)).engine
    assert type(auto) is EagerEngine and "graphs need a GPU" in auto.reason
    never = build_trainer(tiny(review=None, training={"graphs": "never"})).engine
    assert type(never) is EagerEngine and never.reason == "training.graphs is never"
    with pytest.raises(InputError, match=r"training\.graphs: 'always', but graphs need a GPU"):
        build_trainer(tiny(review=None, training={"graphs": "always"}))


class Uncapturable(Reading):
    """Says that it waits for the device."""

    capturable = False


@pytest.mark.parametrize("graphs", ["auto", "always"])
@pytest.mark.parametrize("part", ["sequence", "distiller"])
def test_what_cannot_be_captured_is_named(tiny: Tiny, graphs: Graphs, part: str) -> None:
    shuffles = part == "sequence"
    parts = build_trainer(tiny(review={"sequence_order": "shuffled"} if shuffles else None)).engine.parts
    parts = replace(parts, compute=replace(parts.compute, device=torch.device("cuda")))
    if not shuffles:
        parts = replace(parts, distiller=Uncapturable())
    named = f"no graph can hold {'review.sequence_order: shuffled' if shuffles else 'the distiller Uncapturable'} "
    if graphs == "always":
        with pytest.raises(InputError, match=f"{re.escape(named)}.*set training.graphs: auto"):
            engine_for(graphs)(parts)
    else:
        chosen = engine_for(graphs)(parts)
        assert type(chosen) is EagerEngine and chosen.reason.startswith(named)


class Noted(Branches):
    """Counts what is done apart in each fork of a step, in order."""

    def __init__(self) -> None:
        self.forks: list[int] = []

    @contextmanager
    def fork(self) -> Iterator[Apart]:
        place = len(self.forks)
        self.forks.append(0)

        def apart(work: Callable[[], Any], *uses: Tensor) -> Any:
            self.forks[place] += 1
            assert uses and all(isinstance(tensor, Tensor) for tensor in uses)
            return work()

        yield apart


@pytest.mark.parametrize(
    ("over", "general", "review"),
    [
        ({}, [0], [3, 3]),  # the teacher and two snapshots; three taps
        ({"distiller": "kd"}, [1], [3, 3]),
        ({"distiller": "ekd", "teacher": {"weights": "untrained"}}, [0], [2, 3]),  # a teacher that learns waits
    ],
)
def test_frozen_networks_and_taps_are_branches(
    tiny: Tiny, over: dict[str, Any], general: list[int], review: list[int]
) -> None:
    trainer, branches = build_trainer(tiny(**over)), Noted()
    trainer.engine._branches = branches
    for expected in (general, general, review):
        branches.forks.clear()
        trainer.begin()
        next(trainer.steps())
        assert branches.forks == expected
        trainer.end()


def test_what_rounds_differently_on_a_gpu_is_named_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "matters", lambda compute: True)
    plain = ended(build_trainer(tiny()))
    assert list(plain.engine.inexact) == []
    sharper = {"student": {"resolution": 4}, "review": {"taps": {"size_match": "interp_student"}}}
    trainer = ended(build_trainer(tiny(**sharper)))
    assert list(trainer.engine.inexact) == ["the backward pass of bilinear resizing"]
    assert "no deterministic algorithm on a GPU for the backward pass of bilinear" in warning(trainer.engine.inexact)
    unwatched = build_trainer(tiny(**sharper))
    monkeypatch.setattr(engine, "matters", lambda compute: False)
    assert same(ended(unwatched), trainer) and not unwatched.engine.inexact
