"""The contract of observers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest
import torch

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import teacher_key
from tskd_tune.plain import Document
from tskd_tune.testing.base import Contract, Options, check_description, own_options, tensors
from tskd_tune.training.observers import OBSERVERS, Observer
from tskd_tune.training.record import CLOCKS
from tskd_tune.training.teachers import CACHE_VARIABLE
from tskd_tune.training.trainer import Trainer

SHORT: Document = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 24, "validation": 8, "test": 8},
    "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "distiller": "kd",
    "review": {"k": 1, "delta": 1, "extractor": {"name": "linear"}},
    "training": {"epochs": 2, "lr": 0.05, "device": "cpu"},
}


def observed(experiment: Document, components: Sequence[Mapping[str, Any]]) -> Trainer:
    """Train an experiment to its end with these observers, and return its trainer."""
    trainer = build_trainer(Experiment.read({**copy.deepcopy(experiment), "observe": list(components)}))
    while not trainer.finished:
        trainer.epoch()
    return trainer


def lines(trainer: Trainer) -> list[Document]:
    """Return the history of a training without its clocks."""
    return [{key: value for key, value in record.plain().items() if key not in CLOCKS} for record in trainer.history]


class ObserverContract(Contract):
    """The requirements for every observer, tested on a training with a memorizing and a reviewing epoch.

    Attributes:
        experiment: the training that is observed, as plain data without ``observe``.
        flips: option -> options with another value of this option, with which the history has other numbers.
    """

    experiment: ClassVar[Document] = SHORT

    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keep the teachers of these tests out of the user's cache."""
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.getbasetemp() / "teachers"))

    def component_of(self, name: str, over: Options | None = None) -> Document:
        """Return the observer as it stands in a YAML file."""
        return {"name": name, **self.options_of(name), **(over or {})}

    def test_it_is_an_observer(self, name: str) -> None:
        """The factory makes an observer from the options alone."""
        assert isinstance(OBSERVERS.build(name, **self.options_of(name)), Observer)

    def test_the_training_has_the_same_bits_with_and_without_it(self, name: str) -> None:
        """Weights, optimizers, memories, modes and the other numbers of the history are unchanged."""
        plain, other = observed(self.experiment, []), observed(self.experiment, [self.component_of(name)])
        for mine, theirs in zip(lines(plain), lines(other), strict=True):
            assert mine == {key: theirs[key] for key in mine}
        states = [
            tensors({key: value for key, value in one.state_dict().items() if key != "history"})
            for one in (plain, other)
        ]
        assert len(states[0]) == len(states[1]) and all(map(torch.equal, *states))
        modes = [[module.training for module in one.student.modules()] for one in (plain, other)]
        assert modes[0] == modes[1]

    def test_its_numbers_are_finite_and_the_same_again(self, name: str) -> None:
        """Each number that the observer adds is finite, and depends only on the training and the options."""
        first, second = (observed(self.experiment, [self.component_of(name)]) for _ in range(2))
        assert lines(first) == lines(second)
        assert all(math.isfinite(value) for record in first.history for value in record.numbers.values())

    def test_it_may_have_missed_the_steps_of_an_epoch(self, name: str) -> None:
        """After a resume within an epoch, an observer hears of the end of an epoch whose begin it has missed."""
        whole = build_trainer(Experiment.read(copy.deepcopy(self.experiment)))
        whole.begin()
        next(whole.steps())
        document = {**copy.deepcopy(self.experiment), "observe": [self.component_of(name)]}
        resumed = build_trainer(Experiment.read(document))
        resumed.load_state_dict(whole.state_dict())
        record = resumed.epoch()
        assert record.epoch == 0 and math.isfinite(record.numbers["loss"])

    def test_it_changes_neither_the_name_of_the_training_nor_its_teacher(self, name: str) -> None:
        """Observers are no part of the identity of an experiment, and are written and read again."""
        plain = Experiment.read(copy.deepcopy(self.experiment))
        other = Experiment.read({**copy.deepcopy(self.experiment), "observe": [self.component_of(name)]})
        assert identity(plain) == identity(other) and teacher_key(plain) == teacher_key(other)
        assert Experiment.read(other.plain()) == other

    def test_every_option_changes_a_number(self, name: str) -> None:
        """Every option has an effect: each entry of ``flips`` changes a number of the history."""
        flips = self.flips_of(name)
        assert set(flips) == own_options(OBSERVERS, name), "flips needs an entry for every option"
        plain = lines(observed(self.experiment, [self.component_of(name)]))
        for option, over in flips.items():
            other = lines(observed(self.experiment, [self.component_of(name, over)]))
            assert other != plain, f"{option} changes nothing"

    def test_it_is_described(self, name: str) -> None:
        """The observer and its options have descriptions."""
        check_description(OBSERVERS, name)
