"""The benchmark of methods on a detector measures each of them, plain training being the unit."""

from __future__ import annotations

import pytest

from benchmarks import detection
from tskd_tune.distillers import DISTILLERS

SETTING = detection.Setting("faster_rcnn_resnet18_fpn", "faster_rcnn_resnet18_fpn", 64, 8, threads=1, device="cpu")


def test_every_distiller_of_detectors_is_measured() -> None:
    measured = {str(method.distiller["name"]) for method in detection.METHODS.values()}
    assert measured == {entry.name for entry in DISTILLERS if entry.factory.masks}


@pytest.mark.slow
def test_each_method_is_timed_and_costs_more_than_plain_training(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_of_one = detection.in_a_process(detection._peak_bytes, SETTING, "fgfi")
    monkeypatch.setattr(detection, "in_a_process", lambda function, setting, name: bytes_of_one)
    plain, *others = detection.measure(SETTING, rounds=1)
    assert (plain.name, plain.time_ratio, plain.memory_ratio) == ("none", 1.0, 1.0)
    assert [cost.name for cost in others] == list(detection.METHODS)[1:]
    assert bytes_of_one > 0 and all(cost.seconds > 0 and cost.memory_ratio == 1 for cost in others)
    names = {cost.name: cost for cost in others}
    assert names["review_kd + tskd, a review"].time_ratio > 1
