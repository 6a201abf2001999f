"""What every registered distiller promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.distillers import DISTILLERS
from tskd_tune.testing import DetectorDistillerContract, DistillerContract

# What has no default.
REQUIRED: dict[str, dict[str, Any]] = {"combined": {"parts": {"kd": "kd", "hint": {"name": "at", "power": 1}}}}
# Options with which what changes by epoch changes within few epochs.
CHANGING: dict[str, dict[str, Any]] = {
    "dkd": {"warmup": 4},
    "review_kd": {"warmup": 4},
    "ekd": {"freeze_teacher_after": 1},
    "combined": {"parts": {"a": {"name": "dkd", "warmup": 4}, "b": {"name": "review_kd", "warmup": 4}}},
}
HARD_TASK = {"task_weight": {"task_weight": 0.5}}
WEIGHT = {"weight": {"weight": 2.0}}
TEMPERATURE = {"temperature": {"temperature": 3.0}}
# distiller -> option -> another value, where need be with others under which the option applies.
FLIPS: dict[str, dict[str, dict[str, Any]]] = {
    "at": {"power": {"power": 1}, **WEIGHT},
    "combined": {"parts": {"parts": {"kd": "kd"}}, **HARD_TASK},
    "crd": {
        "dimension": {"dimension": 8},
        "negatives": {"negatives": 8},
        "momentum": {"momentum": 0.9},
        **TEMPERATURE,
        **WEIGHT,
    },
    "dkd": {"alpha": {"alpha": 2.0}, "beta": {"beta": 2.0}, "warmup": {"warmup": 4}, **TEMPERATURE, **HARD_TASK},
    "ka": {
        "mode": {"mode": "label_smoothing", "correct": 0.9},
        "correct": {"mode": "label_smoothing", "correct": 0.5},
        **TEMPERATURE,
        **WEIGHT,
        **HARD_TASK,
    },
    "dtd": {
        "weighting": {"weighting": "cwsm"},
        "beta": {"beta": 4.0},
        "gamma": {"gamma": 2.0},
        "min_temperature": {"min_temperature": 3.5},
        "adjustment": {"adjustment": "probability_shift"},
        "correct": {"adjustment": "label_smoothing", "correct": 0.5},
        **TEMPERATURE,
        **WEIGHT,
        "task_weight": {"task_weight": 0.5},
    },
    "ekd": {
        "guided": {"guided": "linear"},
        "auxiliary_weight": {"auxiliary_weight": 0.5},
        "guided_weight": {"guided_weight": 0.5},
        "embedding_weight": {"embedding_weight": 1.0},
        "width": {"width": 16},
        "stop_gradient": {"stop_gradient": False},
        "freeze_teacher_after": {"freeze_teacher_after": 1},
        **TEMPERATURE,
        **WEIGHT,
    },
    "fitnet": {"stage": {"stage": "stage1"}, "activation": {"activation": "none"}, **WEIGHT},
    "kd": {**TEMPERATURE, **WEIGHT, **HARD_TASK},
    "logit_standardization": {**TEMPERATURE, **WEIGHT, **HARD_TASK},
    "multi_level": {
        "temperatures": {"temperatures": [1.0]},
        "mask": {"mask": "off"},
        "instance_weight": {"instance_weight": 0.5},
        "batch_weight": {"batch_weight": 0.5},
        "class_weight": {"class_weight": 0.5},
        **HARD_TASK,
    },
    "none": {},
    "ofd": WEIGHT,
    "pkt": WEIGHT,
    "review_kd": {
        "stages": {"stages": ["stage1", "stage2"]},
        "max_channels": {"max_channels": 8},
        "warmup": {"warmup": 4},
        **WEIGHT,
    },
    "rkd": {"distance": {"distance": 5.0}, "angle": {"angle": 5.0}, **WEIGHT},
    "sad": {
        "dimension": {"dimension": 8},
        "kd_weight": {"kd_weight": 0.5},
        **TEMPERATURE,
        **WEIGHT,
        **HARD_TASK,
    },
    "sp": WEIGHT,
    "vid": {"variance": {"variance": 1.0}, **WEIGHT},
}


FOR_DETECTORS_ONLY = ("detection_kd", "fgfi")
LEVELS = {"stages": ["fpn0", "fpn1"]}
FOR_DETECTORS: dict[str, dict[str, Any]] = {
    "none": {},
    "detection_kd": {},
    "fgfi": {"warmup": 0, "anchors": [8.0, 16.0]},
    "fitnet": {},
    "review_kd": {**LEVELS, "warmup": 0},
    "combined": {"parts": {"kd": "detection_kd", "levels": {"name": "review_kd", **LEVELS, "warmup": 0}}},
}
DETECTOR_FLIPS: dict[str, dict[str, dict[str, Any]]] = {
    **FLIPS,
    "combined": {"parts": {"parts": {"kd": "detection_kd"}}, **HARD_TASK},
    "detection_kd": {**TEMPERATURE, **WEIGHT},
    "fgfi": {
        "stage": {"stage": "stage2"},
        "threshold": {"threshold": 0.9},
        "anchors": {"anchors": [24.0]},
        "ratios": {"ratios": [1.0]},
        "warmup": {"warmup": 3},
        **WEIGHT,
    },
    "review_kd": {**FLIPS["review_kd"], "max_channels": {"max_channels": 2}, "stages": {"stages": ["stage2", "fpn0"]}},
}


class TestEveryDistillerOfDetectors(DetectorDistillerContract):
    @pytest.fixture(params=FOR_DETECTORS)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        return FOR_DETECTORS[name]

    def changing_of(self, name: str) -> Mapping[str, Any]:
        return {**FOR_DETECTORS[name], "warmup": 4} if name == "review_kd" else {}

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return DETECTOR_FLIPS[name]


def test_every_distiller_that_knows_padding_is_under_the_contract_of_detectors() -> None:
    knowing = [entry.name for entry in DISTILLERS if entry.factory.masks]
    assert {*knowing, "combined"} == set(FOR_DETECTORS)


class TestEveryDistiller(DistillerContract):
    @pytest.fixture(params=[name for name in DISTILLERS.names() if name not in FOR_DETECTORS_ONLY])
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        return REQUIRED.get(name, {})

    def changing_of(self, name: str) -> Mapping[str, Any]:
        return CHANGING.get(name, {})

    def flips_of(self, name: str) -> Mapping[str, Mapping[str, Any]]:
        return FLIPS[name]
