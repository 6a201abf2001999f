from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

import factories
from factories import a_cost
from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import (
    BEST_TEST_MARK,
    ROW_FORMAT,
    UNKNOWN,
    Best,
    Row,
    declared,
    last_metrics,
    other_part,
)

ERROR = Metric("error", "error", "%", "min")
LOSS = Metric("loss", "loss", "", "min", digits=4)


def a_row(**changes):
    cost = a_cost(12.5, train_seconds=10.0, device=UNKNOWN)
    facts = {"metrics": {"loss": 1.0, "test_error": 40.0}, "measures": [ERROR, LOSS], "cost": cost}
    return factories.a_row(**(facts | changes))


def test_round_trip_with_the_names_of_the_json():
    best = [Best.of(3, "validation", "error", 39.0, {"test_error": 41.0}), Best.of(2, "test", "error", 38.0)]
    row = a_row(lambda_=0.5, best=best, plan={"memorize": [0, 1], "review": [2]})
    plain = json.loads(json.dumps(row.plain()))
    assert plain["lambda"] == 0.5
    assert "lambda_" not in plain
    assert [one["marked"] for one in plain["best"]] == [None, BEST_TEST_MARK]
    assert plain["measures"][0] == {"name": "error", "title": "error", "unit": "%", "mode": "min", "digits": 2}
    assert plain["format"] == ROW_FORMAT
    assert Row.model_validate(plain) == row


def test_it_carries_its_provenance_by_itself():
    assert {"tskd-tune", "python", "torch"} <= a_row().versions.keys()


def test_a_diverged_metric_is_null():
    row = a_row(metrics={"loss": float("nan"), "val_error": 3.0}, lambda_=float("inf"))
    assert row.metrics == {"loss": None, "val_error": 3.0}
    assert row.lambda_ is None


@pytest.mark.parametrize(
    "change",
    [
        {"status": "finished"},
        {"seed": "1"},
        {"colour": "red"},
        {"metrics": {"test_error": "60"}},
        {"measures": [{"name": "error"}]},
        {"best": [{"epoch": 3, "part": "test", "metric": "error", "value": 62.0, "marked": "the headline"}]},
    ],
)
def test_it_is_strict(change):
    with pytest.raises(ValidationError):
        Row.model_validate(a_row().plain() | change)


def test_it_is_frozen():
    with pytest.raises(ValidationError):
        a_row().seed = 3


def test_values_and_their_meaning_are_found_by_name():
    best = [Best.of(3, "validation", "error", 39.0), Best.of(1, "validation", "loss", 0.5)]
    row = a_row(best=best)
    assert row.value("test_error") == 40.0
    assert row.value("val_error") is None
    assert row.headline == ERROR
    assert row.best_by("validation") == best[0]
    assert row.best_by("validation", "loss") == best[1]
    assert row.best_by("test") is None
    assert a_row(measures=[]).headline is None


def test_what_a_row_keeps_of_its_last_epoch():
    line = {"epoch": 3, "loss": 1.0, "val_error": 2.0, "test_teacher_error": 3.0, "seconds": 4.0, "lr": 0.1}
    assert last_metrics(line) == {"loss": 1.0, "val_error": 2.0, "test_teacher_error": 3.0}


def test_rows_declare_each_metric_once():
    assert declared([a_row(measures=[]), a_row(), a_row(measures=[LOSS])]) == [ERROR, LOSS]
    assert [other_part("validation", "error"), other_part("test", "error")] == ["test_error", "val_error"]
