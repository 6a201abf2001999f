"""The contract of searchers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tskd_tune.plain import Document
from tskd_tune.sweeps.points import Point
from tskd_tune.sweeps.search import SEARCHERS
from tskd_tune.sweeps.space import SearchSpace
from tskd_tune.testing.base import Contract, check_description

METRIC = "val_loss"
SPACE: Document = {
    "task": "digits",
    "student": {"choice": ["resnet8", "resnet14"]},
    "training": {"lr": {"choice": [0.1, 0.2, 0.4]}},
}
# More suggestions than any searcher makes of this space.
ENOUGH = 20


def described(point: Point) -> Document:
    """Return the config of a trial of a point."""
    return {"experiment": point.experiment, "arm": point.label}


class SearcherContract(Contract):
    """What every searcher promises, on a space of six points.

    Attributes:
        trials: the number of points that the searcher chooses under ``options``.
    """

    trials: ClassVar[int] = 6

    def made(self, name: str) -> tuple[Any, int]:
        """Return a new searcher and its number of trials."""
        return SEARCHERS.build(name, SearchSpace(SPACE), described, {METRIC: "min"}, None, **self.options_of(name))

    def suggested(self, name: str) -> list[Document]:
        """Return all that a new searcher suggests; each trial ends before the next begins, some without a result."""
        from ray.tune.search import Searcher

        searcher, _ = self.made(name)
        found: list[Document] = []
        while len(found) < ENOUGH:
            config = searcher.suggest(f"t{len(found)}")
            if config is None or config == Searcher.FINISHED:
                break
            number = len(found)
            found.append(config)
            failed = number % 3 == 2
            result = None if failed else {METRIC: 1.0 / (1 + number), "training_iteration": 1}
            searcher.on_trial_complete(f"t{number}", result, error=failed)
        return found

    def test_it_is_a_searcher_of_ray_tune(self, name: str) -> None:
        """Ray Tune takes it, and it says how many trials there will be."""
        from ray.tune.search import Searcher

        searcher, trials = self.made(name)
        assert isinstance(searcher, Searcher)
        assert trials == self.trials

    def test_it_suggests_points_of_the_space_and_then_ends(self, name: str) -> None:
        """As many points as it said, each a point of the space, also where trials fail."""
        points = [json.dumps(point.experiment, sort_keys=True) for point in SearchSpace(SPACE).grid()]
        found = [json.dumps(config["experiment"], sort_keys=True) for config in self.suggested(name)]
        assert len(found) == self.trials
        assert set(found) <= set(points)

    def test_it_draws_the_same_points_again(self, name: str) -> None:
        """The points depend on the options and the results alone, so that a run can be repeated."""
        assert self.suggested(name) == self.suggested(name)

    def test_results_of_an_epoch_are_taken(self, name: str) -> None:
        """A searcher hears of every epoch of a trial, and need not learn from it."""
        searcher, _ = self.made(name)
        searcher.suggest("t0")
        searcher.on_trial_result("t0", {METRIC: 1.0, "training_iteration": 1})

    def test_it_takes_the_metric_of_the_run(self, name: str) -> None:
        """Metric and mode are those that it was made for."""
        searcher, _ = self.made(name)
        assert searcher.set_search_properties(METRIC, "min", {})

    def test_it_is_described(self, name: str) -> None:
        """The searcher and its options are explained."""
        check_description(SEARCHERS, name)
