"""A training keeps its name: the digests below are those of the version that first trained in this way, for good."""

from __future__ import annotations

from typing import Any

import pytest

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import essence, identity
from tskd_tune.experiment.teacher import teacher_key

PLAIN: dict[str, Any] = {"task": "digits", "student": "resnet8", "review": None}
REVIEWED: dict[str, Any] = {"task": "digits", "student": "resnet8", "teacher": "resnet20"}
OFFICIAL: dict[str, Any] = {
    "preset": "official", "task": "cifar100", "student": "resnet20", "teacher": "resnet56", "distiller": "kd",
}  # fmt: skip
MUCH: dict[str, Any] = {
    "task": {"name": "cifar100", "validation": 5000},
    "student": "resnet20",
    "teacher": {"name": "resnet56", "training": {"epochs": 10}},
    "distiller": {"name": "kd", "temperature": 2.0},
    "review": {"k": 6, "lambda": {"auto": 0.1}, "transform": {"name": "attention", "power": 1}},
    "training": {"epochs": 120, "precision": "bfloat16"},
}


# The digests of the first version, whose images had their channels first by default, and those of today's default.
GOLDEN = [
    (PLAIN, "c97bae026cda", "cc1ac256e078"),
    (REVIEWED, "6b5d6edb6667", "ad90a54eb5a1"),
    (OFFICIAL, "526c298b4ae7", "cb61fa809761"),
    (MUCH, "8042a5367213", "972391170f53"),
]


@pytest.mark.parametrize(("document", "first", "today"), GOLDEN)
def test_golden_digests(document: dict[str, Any], first: str, today: str) -> None:
    channels_first = documents.merge(document, {"training": {"channels_last": False}})
    for given, digest in ((channels_first, first), (document, today)):
        experiment = Experiment.read(given)
        assert identity(experiment) == digest
        assert identity(Experiment.read(experiment.plain())) == digest, "what is written down is the same training"


@pytest.mark.parametrize(
    "over",
    [
        {"seed": 9},
        {"training": {"device": "cpu", "threads": 3, "graphs": "never"}},
        {"training": {"lr": 0.1, "milestones": [150, 180, 210]}},
        {"task": {"name": "digits", "batch_size": 64}},
        {"distiller": {"name": "none"}},
        {"evaluation": {"test": "last", "validation": "every_epoch"}},
        {"training": {"checkpoint": {"seconds": 1}}},
    ],
)
def test_seeds_defaults_and_what_changes_no_number_are_left_out(over: dict[str, Any]) -> None:
    assert identity(Experiment.read({**REVIEWED, **over})) == identity(Experiment.read(REVIEWED))


@pytest.mark.parametrize(
    "over",
    [
        {"review": None},
        {"review": {"k": 4}},
        {"review": {"k": 3, "lambda": 2.0}},
        {"teacher": {"name": "resnet20", "training": {"seed": 1}}},
        {"training": {"precision": "bfloat16"}},
        {"training": {"kernels": "fastest"}},
        {"training": {"epochs": 20}},
        {"task": {"name": "digits", "validation": 100}},
        {"distiller": "kd"},
        {"evaluation": {"test": "every_epoch"}},
        {"evaluation": {"validation": 5}},
        {"student": "resnet14"},
    ],
)
def test_everything_else_is_another_training(over: dict[str, Any]) -> None:
    document = documents.merge(REVIEWED, over)
    assert identity(Experiment.read(document)) != identity(Experiment.read(REVIEWED))


def test_a_preset_counts_by_what_it_sets() -> None:
    filled = Experiment.read(OFFICIAL).plain()
    assert identity(Experiment.read({**filled, "preset": "paper"})) == identity(Experiment.read(OFFICIAL))


def test_what_decides_is_written_in_the_words_of_the_yaml() -> None:
    assert essence(Experiment.read(MUCH))["review"] == {
        "k": 6,
        "lambda": {"auto": 0.1},
        "transform": {"name": "attention", "power": 1},
    }


@pytest.mark.parametrize(("channels_last", "key"), [(False, "fd1e6663898023d3"), (True, "08f3f8248f294fea")])
def test_the_key_of_a_cached_teacher_stays(channels_last: bool, key: str) -> None:
    document = {"task": "synthetic", "student": "resnet8", "teacher": "resnet14"}
    experiment = Experiment.read({**document, "training": {"channels_last": channels_last}})
    assert teacher_key(experiment) == key, "a new option leaves the cache as it is"
