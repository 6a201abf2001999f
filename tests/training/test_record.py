"""The record of an epoch and its history line."""

from __future__ import annotations

import pytest

from tskd_tune.errors import RunError
from tskd_tune.training.record import Record

RECORD = Record(1, 4, "review", 0.1, {"loss": 2.0, "lambda": 3.0, "val_loss": 1.0, "test_teacher_loss": 0.5}, 7.0, 0.25)


def test_a_record_is_written_in_a_fixed_order_and_read_again() -> None:
    line = RECORD.plain()
    heading, clocks = ["seed", "epoch", "phase", "lr"], ["seconds", "eval_seconds"]
    assert list(line) == [*heading, "loss", "lambda", "val_loss", "test_teacher_loss", *clocks]
    assert Record.read(line) == RECORD


def test_the_metrics_are_the_numbers_that_a_part_stands_before() -> None:
    assert RECORD.metrics == {"val_loss": 1.0, "test_teacher_loss": 0.5}


def test_numbers_are_added_under_free_names() -> None:
    more = RECORD.with_numbers({"gradient_mean": 2.5})
    assert (
        more.numbers == {**RECORD.numbers, "gradient_mean": 2.5}
        and list(more.plain())[-2:] == list(RECORD.plain())[-2:]
    )
    for taken in ("loss", "seconds", "epoch"):
        with pytest.raises(RunError, match=f"the name '{taken}' already stands in the history line"):
            RECORD.with_numbers({taken: 1.0})
