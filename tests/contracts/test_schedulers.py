"""What every registered scheduler promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.sweeps.scheduling.schedulers import SCHEDULERS
from tskd_tune.testing import SchedulerContract

FLIPS: Mapping[str, Mapping[str, Any]] = {
    "fifo": {},
    "asha": {"grace": {"grace": 6}, "reduction_factor": {"reduction_factor": 2}, "brackets": {"brackets": 2}},
    "hyperband": {"grace": {"grace": 6}, "reduction_factor": {"reduction_factor": 2}},
    "optuna": {"grace": {"grace": 9}, "pruner": {"pruner": {"name": "ThresholdPruner", "lower": 0.2}}},
    "median_stopping": {"grace": {"grace": 9}, "least_trials": {"least_trials": 11}},
}


class TestEveryScheduler(SchedulerContract):
    @pytest.fixture(params=SCHEDULERS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        # The default, MedianPruner, compares with trials that have ended, and the contract's trials end together.
        return {"pruner": "SuccessiveHalvingPruner"} if name == "optuna" else {}

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return FLIPS[name]
