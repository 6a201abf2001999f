"""A course of three numbers is that of an experiment with these numbers."""

from __future__ import annotations

import pytest

from tskd_tune.cli.arms import course_of, of_numbers
from tskd_tune.cli.course import Course
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
