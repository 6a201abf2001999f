"""Warm starts: the paper's setting found in a space, and points of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.starting_points import starting_points

ROOT = Path(__file__).parents[3]


@pytest.fixture
def space(tiny_document: dict[str, Any]) -> Any:
    """Make a space of the tiny experiment, 240 epochs long so that the paper's setting reviews, with holes."""
    base = {**tiny_document, "training": {**tiny_document["training"], "epochs": 240}}

    def make(**holes: Any) -> SearchSpace:
        return SearchSpace(documents.merge(base, holes))

    return make


def test_the_papers_setting_is_found_in_ranges_and_choices(space: Any) -> None:
    review = {
        "k": {"int": [1, 9]},
        "delta": {"int": [1, 15, 2]},
        "lambda": {"loguniform": [0.1, 3000]},
        "sequence": {"choice": ["feature_map", "increment"]},
        "extractor": {"hidden": {"choice": [8, 16, 32]}},
    }
    (found,) = starting_points(space(review=review), "paper")
    assert found == {
        "review.k": 3,
        "review.delta": 5,
        "review.lambda": 1.0,
        "review.sequence": "increment",
        "review.extractor.hidden": "16",
    }
    assert isinstance(found["review.k"], int) and isinstance(found["review.lambda"], float)


def test_the_branch_that_can_become_the_papers_is_taken(space: Any) -> None:
    branches = {
        "none": None,
        "many": {"k": {"int": [6, 9]}},
        "raw": {"k": {"choice": [3, 6]}, "transform": {"name": "attention", "norm": "none"}},
        "ours": {"k": {"choice": [6, 3]}, "delta": {"int": [1, 15]}},
    }
    (found,) = starting_points(space(review={"choice": branches, "lambda": 1.0}), "paper")
    assert found == {"review": "ours", "review.ours.k": "3", "review.ours.delta": 5}


def test_arms_at_the_root_are_read_where_they_are_merged(space: Any) -> None:
    arms = {
        "baseline": {"review": None},
        "kd": {"distiller": "kd", "review": {"delta": {"int": [1, 15]}}},
        "tskd": {"review": {"delta": {"int": [1, 15]}, "k": {"choice": {"few": 3, "many": 9}}}},
    }
    (found,) = starting_points(space(choice=arms), "paper")
    assert found == {"arm": "tskd", "tskd.review.delta": 5, "tskd.review.k": "few"}


@pytest.mark.parametrize(
    ("review", "sentence"),
    [
        ({"delta": {"int": [6, 15]}}, r"review.delta is int \[6, 15\], but the paper has 5; widen its range"),
        ({"delta": {"int": [2, 15, 2]}}, r"review.delta is int \[2, 15, 2\], but the paper has 5"),
        ({"extractor": {"hidden": {"choice": [8, 32]}}}, "review.extractor.hidden is a choice of 8, 32, but the paper"),
        ({"lambda": {"choice": {"found": {"auto": 0.1}, "weak": 0.5}}}, "review.lambda is a choice of found, weak"),
    ],
)
def test_a_space_without_the_papers_value_says_which(space: Any, review: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"search.start: {sentence}"):
        starting_points(space(review=review), "paper")


def test_points_of_ones_own_are_named_as_the_searcher_names_them(space: Any) -> None:
    branches = {
        "none": None,
        "tskd": {"k": {"choice": [3, 6]}, "delta": {"int": [1, 15]}, "lambda": {"uniform": [0, 9]}},
    }
    one = space(review={"choice": branches}, training={"nesterov": {"choice": [True, False]}})
    given = [
        {"review": "none", "training.nesterov": True},
        {"review.tskd.k": 6, "review": "tskd", "review.tskd.lambda": 4},
        {"training.nesterov": "false"},
        {},
    ]
    assert starting_points(one, given) == [
        {"review": "none", "training.nesterov": "true"},
        {"review": "tskd", "review.tskd.k": "6", "review.tskd.lambda": 4.0},
        {"training.nesterov": "false"},
        {},
    ]
    assert starting_points(one, None) == []


@pytest.mark.parametrize(
    ("point", "sentence"),
    [
        ({"review.k": 3}, "point 1: there is no search parameter 'review.k'"),
        ({"review.tskd.k": 3}, "point 1: review.tskd.k is used only where review is tskd; give review too"),
        ({"review": "none", "review.tskd.k": 3}, "point 1: review.tskd.k is used only where review is tskd"),
        ({"review": "tskd", "review.tskd.k": 4}, "point 1: review.tskd.k is a choice of 3, 6, which does not hold 4"),
        ({"training.epochs": 300}, r"point 1: training.epochs is int \[200, 240\], which does not hold 300"),
        ({"training.epochs": 210.5}, "point 1: .* does not hold 210.5"),
        ({"training.epochs": True}, "point 1: .* does not hold True"),
    ],
)
def test_a_point_that_is_not_in_the_space_is_refused(space: Any, point: dict[str, Any], sentence: str) -> None:
    branches = {"none": None, "tskd": {"k": {"choice": [3, 6]}}}
    one = space(review={"choice": branches}, training={"epochs": {"int": [200, 240]}})
    with pytest.raises(InputError, match=f"search.start: {sentence}"):
        starting_points(one, [{}, point])


def test_the_shipped_search_starts_at_the_papers_setting() -> None:
    sweep = Sweep.load(ROOT / "search_spaces" / "tskd_search.yaml")
    searcher, trials = sweep.searcher_for(
        sweep.space(), lambda point: TrialConfig(point.label, point.values, point.experiment)
    )
    assert trials == 40
    assert searcher.suggest("first")["point"] == {
        "review.k": 3,
        "review.delta": 5,
        "review.lambda": 1.0,
        "review.sequence": "increment",
        "review.extractor.hidden": 16,
    }
    assert searcher.suggest("second")["point"]["review.lambda"] != 1.0


def test_an_experiment_that_cannot_have_the_papers_review_is_said_to_be_so() -> None:
    plain = {
        "task": {"name": "digits"},
        "student": "resnet8",
        "review": None,
        "training": {"lr": {"uniform": [0.1, 1]}},
    }
    with pytest.raises(InputError, match="search.start: 'paper' has the paper's review.*teacher: is missing"):
        starting_points(SearchSpace(plain), "paper")
