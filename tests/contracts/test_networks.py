"""What every registered network promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.networks import NETWORKS, Network
from tskd_tune.testing import NetworkContract

# What a network must be told; small ones stand for the rest.
REQUIRED: dict[str, dict[str, Any]] = {"timm": {"model": "test_efficientnet"}, "torchvision": {"model": "resnet18"}}


class TestEveryNetwork(NetworkContract):
    @pytest.fixture(params=NETWORKS.names())
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
