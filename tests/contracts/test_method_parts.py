"""What every registered extractor and transform promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.testing import ExtractorContract, TransformContract

SMALL = {"hidden": {"hidden": 4}, "kernel": {"kernel": 5}}
FLIPS: dict[str, dict[str, dict[str, Any]]] = {
    "conv_lstm": {
        **SMALL,
        "peephole": {"peephole": "full"},
        # Neither goes without the other.
        "stem": {"stem": "strided8", "head": "deconv"},
        "forecaster_input": {"forecaster_input": "last"},
        "readout": {"readout": "h_c"},
        "head": {"stem": "strided8", "head": "deconv"},
        "forecast_steps": {"readout": "all_steps", "forecast_steps": 2},
        "out_activation": {"out_activation": "relu"},
        "initialization": {"initialization": "joint"},
    },
    "conv_gru": SMALL,
    "conv3d": SMALL,
    "last_step": {},
    "linear": {},
}


class TestEveryExtractor(ExtractorContract):
    @pytest.fixture(params=EXTRACTORS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def reads_the_past_of(self, name: str) -> bool:
        return name != "last_step"

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return FLIPS[name]


class TestAttention(TransformContract):
    component = "attention"
    flips: Mapping[str, Mapping[str, Any]] = {
        "power": {"power": 1},
        "reduce": {"reduce": "max"},
        "norm": {"norm": "none"},
    }


def test_every_transform_is_under_contract() -> None:
    assert TRANSFORMS.names() == [TestAttention.component]
