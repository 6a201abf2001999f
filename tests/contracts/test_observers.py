"""What every registered observer promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.testing import ObserverContract
from tskd_tune.training.observers import OBSERVERS

FLIPS: Mapping[str, Mapping[str, Any]] = {
    "gradient_norms": {"every": {"every": 2}},
    "series": {
        "samples": {"samples": [5]},
        "stage": {"stage": "stage2"},
        "units": {"units": 3},
        "pixels": {"pixels": 2},
        "weights": {"weights": 5},
    },
}


class TestEveryObserver(ObserverContract):
    @pytest.fixture(params=OBSERVERS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return FLIPS[name]
