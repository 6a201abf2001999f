"""How a training computes is set while it computes, and nothing stays set."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.training.compute import Compute


@pytest.mark.parametrize("before", [(False, True), (False, False), (True, True)])
def test_cudnn_is_deterministic_inside_and_as_before_outside(before: tuple[bool, bool]) -> None:
    cudnn = torch.backends.cudnn
    found = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = before
    try:
        with pytest.raises(MemoryError), Compute(torch.device("cpu")).deterministic():
            assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
            raise MemoryError
        assert (cudnn.deterministic, cudnn.benchmark) == before
    finally:
        cudnn.deterministic, cudnn.benchmark = found
