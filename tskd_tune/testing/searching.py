"""The contract of searchers."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.run_searcher import Config
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.testing.base import Contract, check_description

METRIC = "val_loss"
SPACE: dict[str, object] = {
    "task": "digits",
    "student": {"choice": ["resnet8", "resnet14"]},
    "training": {"lr": {"choice": [0.1, 0.2, 0.4]}},
}
# A number larger than the number of suggestions of any searcher for this space.
ENOUGH = 20


def described(point: Point) -> TrialConfig:
    """Return the config of a point's trial."""
    return TrialConfig(point.label, point.values, point.experiment)


class SearcherContract(Contract):
    """The requirements for every searcher, tested on a space of six points.

    Attributes:
        trials: the number of points that the searcher chooses with ``options``.
    """

    trials: ClassVar[int] = 6

    def made(self, name: str) -> tuple[Any, int]:
        """Return a new searcher and its number of trials."""
        return SEARCHERS.build(name, SearchSpace(SPACE), described, {METRIC: "min"}, None, **self.options_of(name))

    def suggested(self, name: str) -> list[Config]:
        """Return all suggestions of a new searcher; each trial ends before the next, and some have no result."""
        from ray.tune.search import Searcher

        searcher, _ = self.made(name)
        found: list[Config] = []
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
        """Ray Tune accepts the searcher, and the searcher says how many trials there will be."""
        from ray.tune.search import Searcher

        searcher, trials = self.made(name)
        assert isinstance(searcher, Searcher)
        assert trials == self.trials

    def test_it_suggests_points_of_the_space_and_then_ends(self, name: str) -> None:
        """The searcher suggests the declared number of points, all from the space, also if trials fail."""
        points = [json.dumps(point.experiment, sort_keys=True) for point in SearchSpace(SPACE).grid()]
        found = [json.dumps(config["experiment"], sort_keys=True) for config in self.suggested(name)]
        assert len(found) == self.trials
        assert set(found) <= set(points)

    def test_it_draws_the_same_points_again(self, name: str) -> None:
        """The points depend only on the options and the results, so a run can be repeated."""
        assert self.suggested(name) == self.suggested(name)

    def test_results_of_an_epoch_are_taken(self, name: str) -> None:
        """A searcher accepts the results of every epoch of a trial, and may ignore them."""
        searcher, _ = self.made(name)
        searcher.suggest("t0")
        searcher.on_trial_result("t0", {METRIC: 1.0, "training_iteration": 1})

    def test_it_takes_the_metric_of_the_run(self, name: str) -> None:
        """The searcher uses the metric and the mode with which it was made."""
        searcher, _ = self.made(name)
        assert searcher.set_search_properties(METRIC, "min", {})

    def test_it_is_described(self, name: str) -> None:
        """The searcher and its options have descriptions."""
        check_description(SEARCHERS, name)
