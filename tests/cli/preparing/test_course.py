"""A course of three numbers is that of an experiment with these numbers."""

from __future__ import annotations

import pytest

from tskd_tune.cli.preparing.arms import course_of, of_numbers
from tskd_tune.cli.preparing.course import Course
from tskd_tune.errors import InputError


@pytest.mark.parametrize("numbers", [(240, 3, 5), (30, 1, 1), (7, 2, 3), (60, 3, 15)])
def test_three_numbers_give_the_course_of_a_whole_experiment(numbers: tuple[int, int, int]) -> None:
    light, whole = Course.of_numbers(*numbers), course_of(of_numbers(*numbers, settings=[]))
    assert light.plain() == whole.plain()
    assert (light.phases(), [*light.drops], light.warnings()) == (whole.phases(), [*whole.drops], whole.warnings())


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ((0, 3, 5), "--epochs: must be from 1 to 100,000, got 0"),
        ((100_001, 3, 5), "--epochs: must be from 1 to 100,000, got 100001"),
        ((30, 0, 5), "--k: must be at least 1, got 0"),
        ((30, 3, -1), "--delta: must be at least 1, got -1"),
        ((10, 3, 5), "review: the first review is epoch 15 but training has 10 epochs"),
    ],
)
def test_a_number_out_of_its_bounds_is_refused(numbers: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence.replace("(", "[(]")):
        Course.of_numbers(*numbers)


def test_nodes_of_steps_are_drawn_by_epoch_and_listed_by_step(tiny, capsys: pytest.CaptureFixture[str]) -> None:
    course = course_of(tiny(review={"plan": {"node": 4}}))  # 6 epochs of 3 steps
    assert course.phases() == ".mRr.m"
    found = course.plain()
    assert (found["memorize"], found["review"]) == ([1, 2, 5], [2, 3])
    assert found["nodes"] == {"steps": 4, "count": 4, "memorize": [(0, 0), (1, 1), (4, 0)], "review": [(2, 2)]}
    course.draw("")
    said = capsys.readouterr().out
    assert "6 epochs of 3 steps, nodes of 4 steps, 3 memories, 1 review at epoch 2" in said
    assert "nodes" not in course_of(tiny()).plain()


def test_three_numbers_do_not_tell_the_steps_of_an_epoch() -> None:
    with pytest.raises(InputError, match="review.plan.node counts steps, .* give FILE"):
        of_numbers(9, 2, 2, ["review.plan.node=10"])
