"""The drawing of a plan: a letter an epoch, wrapped, with the drops of the rate under their epochs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tskd_tune.cli.preparing.arms import course_of
from tskd_tune.cli.preparing.drawing import timeline
from tskd_tune.experiment import Experiment

Read = Callable[..., Experiment]


def lines(experiment: Experiment, width: int) -> list[str]:
    course = course_of(experiment)
    return timeline(course.phases(), course.drops, width).plain.splitlines()


def test_every_phase_has_its_letter(tiny: Read) -> None:
    assert course_of(tiny()).phases() == "mmrmmr"
    chained = tiny(review={"delta": 2, "plan": {"cycle": "chained"}}, training={"epochs": 9})
    assert course_of(chained).phases() == "m.m.R.m.R"
    assert course_of(tiny(review=None)).phases() == "......"


@pytest.mark.parametrize(("convention", "first"), [("at", [8, 20]), ("after", [9, 21])])
def test_a_drop_is_the_first_epoch_at_a_lower_rate(convention: str, first: list[int], tiny: Read) -> None:
    training = {"epochs": 25, "milestones": [8, 20], "milestone_convention": convention}
    assert course_of(tiny(training=training)).drops == first
    assert course_of(tiny(training={**training, "gamma": 1.0})).drops == []


@pytest.mark.parametrize(("width", "length"), [(17, 10), (5, 10), (36, 20), (37, 30), (200, 190)])
def test_lines_are_whole_tens_and_fit(width: int, length: int, tiny: Read) -> None:
    experiment = tiny(training={"epochs": 45, "milestones": []}, review={"k": 2, "delta": 3})
    rows = lines(experiment, width)[:-1]
    cells = course_of(experiment).phases()
    assert "".join(row[7:] for row in rows) == cells
    assert [int(row[:5]) for row in rows] == list(range(0, 45, length))
    assert all(len(row) <= max(width, 17) for row in rows)


def test_drops_stand_under_their_epochs_and_the_legend_says_what_is_drawn(tiny: Read) -> None:
    experiment = tiny(training={"epochs": 25, "milestones": [13]}, review={"k": 2, "delta": 3})
    first, second, marks, third, legend = lines(experiment, 17)
    assert (first[:7], second[:7], third[:7]) == ("    0  ", "   10  ", "   20  ")
    assert marks.index("^") == 7 + 3 and marks.strip() == "^"
    assert legend.split(", ")[-1] == "^ the learning rate drops" and "R " not in legend
    assert "^" not in lines(tiny(training={"epochs": 6, "milestones": []}), 80)[-1]
