"""The suite of memory formats: a difference that is more than rounding is refused."""

from __future__ import annotations

import pytest
import torch

from benchmarks import layouts
from benchmarks.exactness import ExactnessError
from benchmarks.layouts import same_but_rounding
from benchmarks.workload import Variant, Workload
from tskd_tune.training.compute import Compute

CPU = torch.device("cpu")
TINY = Workload("resnet8", "resnet14", batch_size=25, general=4)
FIRST, LAST = Variant("first"), Variant("last", channels_last=True)


def test_the_memory_format_is_a_rounding() -> None:
    found = same_but_rounding(TINY, FIRST, LAST, CPU)
    assert found.exactness == "rounding" and 0 < found.difference < 0.3


def test_another_computation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arranged = Compute.arrange
    monkeypatch.setattr(
        Compute, "arrange", lambda of, images: arranged(of, images.flip(0) if of.channels_last else images)
    )
    with pytest.raises(ExactnessError, match="declared as 'rounding'"):
        same_but_rounding(TINY, FIRST, LAST, CPU)


def test_each_network_has_a_row_for_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "QUICK_NETWORKS", ("resnet8",))
    report = layouts.run(CPU, quick=True)
    assert [(row.name, row.layout, len(row.repeats)) for row in report.rows] == [
        ("resnet8, float32 channels_last", "channels_last", 3),
        ("resnet8, bfloat16 channels_last", "channels_last", 3),
    ]
    assert all(row.ratio > 0 and row.difference > 0 for row in report.rows)
