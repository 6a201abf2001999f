"""What every registered network promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.networks import NETWORKS, Network
from tskd_tune.testing import DetectorContract, NetworkContract

# What a network must be told; small ones stand for the rest.
REQUIRED: dict[str, dict[str, Any]] = {"timm": {"model": "test_efficientnet"}, "torchvision": {"model": "resnet18"}}
REQUIRED |= {"mlp": {"size": 8}}


SMALL = {
    **{"pyramid_width": 16, "head_width": 16, "regions": 32},
    **{"train_proposals": 64, "test_proposals": 32, "score_threshold": 0.0},
}
DETECTORS = [entry.name for entry in NETWORKS if getattr(entry.factory, "takes_batch", False)]
CLASSIFIERS = [name for name in NETWORKS.names() if name not in DETECTORS]


def slow_if(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.long) if name.endswith(("50_fpn", "101_fpn")) else name


class TestEveryDetector(DetectorContract):
    @pytest.fixture(params=[slow_if(name) for name in DETECTORS])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        return SMALL


class TestEveryNetwork(NetworkContract):
    @pytest.fixture(params=CLASSIFIERS)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        return REQUIRED.get(name, {})

    def made(self, name: str, seed: int = 0) -> Network:
        if name == "timm":
            pytest.importorskip("timm")
        return super().made(name, seed)

    def test_it_can_end_at_its_last_tap(self, name: str) -> None:
        assert self.made(name).cuttable
