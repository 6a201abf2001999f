"""A metric knows which of two values is better and how values are shown; names of measured metrics are read back."""

from itertools import product
from typing import Any

import pytest

from tskd_tune.metrics import Measured, Metric, heading, measured, metric_of, undeclared

ACCURACY = Metric("top1", "top-1", "%", "max")
LOSS = Metric("loss", "loss", "", "min", digits=4)


def test_more_or_less_is_better():
    assert ACCURACY.better(2.0, 1.0) and not ACCURACY.better(1.0, 2.0) and not ACCURACY.better(1.0, 1.0)
    assert LOSS.better(1.0, 2.0) and not LOSS.better(2.0, 1.0) and not LOSS.better(1.0, 1.0)
    assert (ACCURACY.best([1.0, 3.0, 2.0]), LOSS.best([3.0, 1.0, 2.0])) == (3.0, 1.0)


def test_values_are_shown_with_unit_and_digits():
    assert (ACCURACY.text(71.204), LOSS.text(0.12345)) == ("71.20 %", "0.1235")
    assert (ACCURACY.text(0.5, sign=True), LOSS.text(-0.5, sign=True)) == ("+0.50 %", "-0.5000")
    assert (ACCURACY.heading, LOSS.heading) == ("top-1 (%)", "loss")
    assert (ACCURACY.bounds, LOSS.bounds) == ((0.0, 100.0), None)


def test_plain_data_makes_the_metric_again():
    plain: Any = ACCURACY.plain()
    assert Metric(**plain) == ACCURACY


def test_a_name_is_read_back():
    for part, metric, teacher in product(("validation", "test"), ("top1", "loss", "box_ap"), (False, True)):
        found = Measured(part, metric, teacher)  # type: ignore[arg-type]
        assert Measured.read(found.name) == found
    assert Measured("validation", "top1").name == "val_top1"
    assert Measured("test", "top1", teacher=True).name == "test_teacher_top1"
    assert measured("test", LOSS) == measured("test", "loss") == "test_loss"


@pytest.mark.parametrize("name", ["loss", "seconds", "grad_norm_review", "val_", "test_teacher_", "validation_loss"])
def test_other_names_are_none_of_a_measured_metric(name: str):
    assert Measured.read(name) is None


def test_a_name_finds_the_metric_that_its_task_declared():
    mine = Metric("loss", "mean error", "px", "min", digits=1)
    assert metric_of("val_loss", [ACCURACY, mine]) == metric_of("loss", [mine]) == mine
    assert heading("val_loss", [mine]) == "val mean error (px)"


def test_metrics_of_older_runs_are_guessed_from_their_names():
    assert undeclared("top1") == ACCURACY
    assert undeclared("loss") == LOSS
    assert undeclared("accuracy").mode == "max"
    assert undeclared("top_error").mode == "min"
    assert heading("test_top1", ()) == "test top-1 (%)"
    assert heading("test_teacher_top1", ()) == "test teacher top-1 (%)"
    assert heading("val_loss", ()) == "val loss"
