"""The profile of a step: the longest operations, and all others together, are the whole."""

from __future__ import annotations

import pytest
import torch

from benchmarks.contenders import GENERAL, REVIEW
from benchmarks.hot_spots import MOST, hot_spots
from benchmarks.variants import FORMATS

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [GENERAL, REVIEW])
def test_the_longest_operations_come_first_and_convolutions_lead(kind: str) -> None:
    found = hot_spots(FORMATS[1], kind, CPU, batch_size=16)
    values = [count.value for count in found]
    assert len(found) == MOST + 1 and min(values) > 0
    assert values[:-1] == sorted(values[:-1], reverse=True)
    assert "convolution" in found[0].what and found[-1].what.endswith(": all others")


def test_a_review_runs_what_a_general_step_does_not() -> None:
    named = {
        kind: {count.what.partition(": ")[2] for count in hot_spots(FORMATS[1], kind, CPU, 16)}
        for kind in (GENERAL, REVIEW)
    }
    assert "mkldnn::_convolution_pointwise" in named[REVIEW] - named[GENERAL]  # teacher and snapshots, folded
