"""Observers hear of a training and change nothing of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from tskd_tune.errors import DivergedError, InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import teacher_key
from tskd_tune.experiment.verification import verify
from tskd_tune.tasks.base import Task
from tskd_tune.training.lockstep import advance
from tskd_tune.training.observers import OBSERVERS, Observer, Training, norm
from tskd_tune.training.record import Record
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
every_observer = pytest.mark.parametrize("name", OBSERVERS.names())


class Noted(Observer):
    """Writes down what it hears, and draws from every global generator."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    def note(self, what: str, training: Training) -> None:
        torch.rand(3), np.random.rand(3), random.random()
        self.heard.append((what, training.next_epoch))

    def begun(self, training: Training) -> None:
        self.note("begun", training)

    def stepped(self, training: Training) -> None:
        self.note("stepped", training)

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        self.note("ended", training)
        return {"steps": float(sum(what == "stepped" for what, _ in self.heard))}


def state(trainer: Trainer) -> list[torch.Tensor]:
    modules = [trainer.student, trainer.distiller, *([trainer.review.loss] if trainer.review else [])]
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def unobserved(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.numbers.items() if name in ("loss", "val_loss", "loss_review")}


@every_observer
def test_a_training_has_the_same_bits_with_and_without_observers(tiny: Tiny, name: str) -> None:
    plain, observed = build_trainer(tiny(distiller="kd")), build_trainer(tiny(distiller="kd"))
    observed.observers += [Noted(), OBSERVERS.build(name), Observer()]
    while not plain.finished:
        assert unobserved(plain.epoch()) == unobserved(observed.epoch())
    assert all(map(torch.equal, state(plain), state(observed)))


def test_an_observer_hears_of_every_epoch_and_step_and_adds_to_the_line(tiny: Tiny) -> None:
    trainer, noted = build_trainer(tiny(review=None)), Noted()
    trainer.observers.append(noted)
    record = trainer.epoch()
    assert noted.heard == [("begun", 0), *[("stepped", 0)] * 3, ("ended", 1)]
    assert record.numbers["steps"] == 3.0 and trainer.history == [record]
    with pytest.raises(RunError, match="observe: the name 'steps' already stands"):
        trainer.observers.append(noted)
        trainer.epoch()
    with pytest.raises(RunError, match="observe: the name 'val_sharpness' is that of a metric"):
        record.with_numbers({"val_sharpness": 1.0})


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"stage": "stage4"}, "^observe.series.stage: the network has no stage 'stage4'; did you mean 'stage"),
        ({"samples": [0, 99]}, "^observe.series.samples: sample 99 is asked for, but the validation set has \\d+ samp"),
    ],
)
def test_options_of_an_observer_that_do_not_fit_are_refused_before_training(
    tiny: Tiny, option: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        verify(tiny(observe=[{"name": "series", **option}]))


class Recorder(Observer):
    """Keeps what is recorded, and how the training diverged."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.errors: list[DivergedError] = []

    def recorded(self, training: Training, record: Record) -> None:
        self.records.append(record)

    def diverged(self, training: Training, error: DivergedError) -> None:
        self.errors.append(error)


def test_what_is_recorded_has_the_numbers_of_all_observers(tiny: Tiny) -> None:
    trainer, recorder = build_trainer(tiny(review=None)), Recorder()
    trainer.observers += [recorder, Noted()]
    record = trainer.epoch()
    assert recorder.records == [record] == trainer.history and record.numbers["steps"] == 3.0
    assert recorder.errors == []


def test_a_divergence_is_told_once_and_is_not_recorded(tiny: Tiny) -> None:
    trainer, recorder = build_trainer(tiny(review=None, training={"lr": 1e20})), Recorder()
    trainer.observers.append(recorder)
    while not recorder.errors:
        (found,) = advance([trainer])
    assert recorder.errors == [found] and recorder.records == trainer.history


@pytest.mark.parametrize("others", [0, 1])
def test_a_divergence_within_a_step_is_told_too(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    trainer, *more = (build_trainer(tiny(review=None)) for _ in range(1 + others))
    trainer.observers.append(recorder := Recorder())

    def step(feed: object, draw: object, kind: object) -> None:
        raise DivergedError("no gradient")

    monkeypatch.setattr(trainer.engine, "step", step)
    found = advance([trainer, *more])
    assert recorder.errors == found[:1] and recorder.records == []
    assert all(isinstance(record, Record) for record in found[1:])


def test_the_sets_of_an_evaluation_are_opened_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    evaluation = Task.evaluation

    def noted(task: Task, part: Any, device: Any) -> Any:
        opened.append(part)
        return evaluation(task, part, device)

    monkeypatch.setattr(Task, "evaluation", noted)
    trainer = build_trainer(tiny(review=None, evaluation={"test": "every_epoch"}))
    for _ in range(2):
        trainer.epoch()
    assert sorted(opened) == ["test", "validation"]


def test_gradient_norms_are_those_of_the_steps(tiny: Tiny) -> None:
    norms: list[float] = []

    class Twin(Observer):
        def stepped(self, training: Training) -> None:
            squares = [(p.grad.double() ** 2).sum() for p in training.student.parameters() if p.grad is not None]
            norms.append(float(torch.stack(squares).sum().sqrt()))

    trainer = build_trainer(tiny(review=None))
    trainer.observers += [Twin(), OBSERVERS.build("gradient_norms")]
    numbers = trainer.epoch().numbers
    assert numbers["gradient_mean"] == pytest.approx(sum(norms) / 3, rel=1e-5)
    assert numbers["gradient_max"] == pytest.approx(max(norms), rel=1e-5)
    trainer.observers[-1] = OBSERVERS.build("gradient_norms", every=2)
    del norms[:]
    numbers = trainer.epoch().numbers
    assert numbers["gradient_mean"] == pytest.approx((norms[0] + norms[2]) / 2, rel=1e-5)


def test_without_gradients_the_norm_is_zero() -> None:
    assert norm([torch.nn.Parameter(torch.ones(2))]) == 0


def test_observers_are_named_in_the_experiment_and_change_neither_its_name_nor_its_teacher(tiny: Tiny) -> None:
    plain, observed = tiny(), tiny(observe=[{"name": "gradient_norms", "every": 2}])
    assert [component["every"] for component in observed.plain()["observe"]] == [2]
    assert Experiment.read(observed.plain()) == observed
    assert identity(observed) == identity(plain) and teacher_key(observed) == teacher_key(plain)
    assert observed.deviations() == plain.deviations()
    with pytest.raises(InputError, match="'gradient_norm' is not among the observers; did you mean 'gradient_norms'"):
        tiny(observe=["gradient_norm"])


def test_observers_of_ones_own_are_found(tiny: Tiny) -> None:
    trainer = build_trainer(tiny(observe=[f"{__name__}:Noted"], review=None))
    assert trainer.epoch().numbers["steps"] == 3.0
