"""What every registered extractor and transform promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.extractors import EXTRACTORS
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.testing import ExtractorContract, TransformContract

SMALL = {"hidden": {"hidden": 4}, "kernel": {"kernel": 5}}
FLIPS: dict[str, dict[str, dict[str, Any]]] = {
    "conv_lstm": {
        **SMALL,
        "layers": {"layers": 2},
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
    "temporal_attention": {**SMALL, "heads": {"heads": 4}, "position": {"position": "none"}},
    "last_step": {},
    "linear": {},
    "mean": {},
    "pixel_ar": {},
}


class TestEveryExtractor(ExtractorContract):
    @pytest.fixture(params=EXTRACTORS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def reads_the_past_of(self, name: str) -> bool:
        return name != "last_step"

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return FLIPS[name]


TRANSFORM_FLIPS: dict[str, dict[str, dict[str, Any]]] = {
    "attention": {"power": {"power": 1}, "reduce": {"reduce": "max"}, "norm": {"norm": "none"}},
    "channels": {"groups": {"groups": 1}, "norm": {"norm": "none"}},
    "principal_components": {
        "components": {"components": 2},
        "center": {"center": False},
        "steps": {"steps": 1},
        "norm": {"norm": "none"},
    },
}


class TestEveryTransform(TransformContract):
    @pytest.fixture(params=TRANSFORMS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return TRANSFORM_FLIPS[name]


@pytest.mark.parametrize("name", ["channels", "principal_components"])
def test_a_training_reviews_several_maps_of_an_image_with_the_same_bits_each_time(
    name: str, tiny: Callable[..., Experiment]
) -> None:
    def weights(transform: dict[str, Any]) -> list[float]:
        trainer = build_trainer(tiny(review={"transform": transform}, training={"epochs": 3}))
        while not trainer.finished:
            trainer.epoch()
        return torch.cat([value.flatten().double() for value in trainer.student.state_dict().values()]).tolist()

    several = {"channels": {"groups": 4}, "principal_components": {"components": 3}}[name]
    found = weights({"name": name, **several})
    assert found == weights({"name": name, **several})
    assert found != weights({"name": "attention"})
