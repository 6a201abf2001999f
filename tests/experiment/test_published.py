"""What is published for a pair of networks fills an experiment, and is data about things that exist."""

from __future__ import annotations

import pytest

from tskd_tune.distillers import DISTILLERS
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.published import published
from tskd_tune.networks import NETWORKS

ENTRIES = [
    (distiller, teacher, student, options)
    for distiller, teachers in published().items()
    for teacher, students in teachers.items()
    for student, options in students.items()
]


def experiment(teacher: str, student: str, distiller: object) -> Experiment:
    return Experiment.read(
        {"task": "cifar100", "teacher": teacher, "student": student, "distiller": distiller, "review": None}
    )


@pytest.mark.parametrize(("distiller", "teacher", "student", "options"), ENTRIES)
def test_every_entry_is_of_known_networks_and_differs_from_the_default(
    distiller: str, teacher: str, student: str, options: dict[str, float]
) -> None:
    assert {teacher, student} <= set(NETWORKS.names())
    default = DISTILLERS.options(distiller)(name=distiller).plain()
    resolved = experiment(teacher, student, distiller).plain()["distiller"]
    assert options
    for name, value in options.items():
        assert default[name] != value and resolved[name] == value
    assert {name: value for name, value in resolved.items() if name not in options} == {
        name: value for name, value in default.items() if name not in options
    }


def test_the_published_figures() -> None:
    assert published()["dkd"]["wrn_40_2"]["wrn_16_2"] == {"beta": 6.0}
    assert published()["review_kd"]["resnet56"]["resnet20"] == {"weight": 0.6}


def test_what_is_set_stays() -> None:
    given = experiment("resnet56", "resnet20", {"name": "dkd", "beta": 3.0})
    assert given.plain()["distiller"]["beta"] == 3.0


def test_another_pair_keeps_the_default() -> None:
    assert experiment("resnet32", "resnet20", "dkd").plain()["distiller"]["beta"] == 8.0


def test_parts_of_a_combination_are_filled_too() -> None:
    parts = experiment("resnet56", "resnet20", {"name": "combined", "parts": {"dkd": "dkd", "at": "at"}})
    assert parts.plain()["distiller"]["parts"]["dkd"]["beta"] == 2.0


def test_a_resolved_experiment_reads_back() -> None:
    resolved = experiment("resnet56", "resnet20", "dkd")
    assert Experiment.read(resolved.plain()) == resolved
