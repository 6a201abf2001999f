"""How a training computes is set while it computes, and nothing stays set."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.training.compute import Compute, Kernels


@pytest.mark.parametrize("before", [(False, True), (False, False), (True, True)])
@pytest.mark.parametrize(("kernels", "inside"), [("deterministic", (True, False)), ("fastest", (False, True))])
def test_cudnn_is_as_chosen_inside_and_as_before_outside(
    kernels: Kernels, inside: tuple[bool, bool], before: tuple[bool, bool]
) -> None:
    cudnn, compute = torch.backends.cudnn, Compute(torch.device("cpu"), kernels=kernels)
    found = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = before
    try:
        with pytest.raises(MemoryError), compute.choosing_kernels():
            assert (cudnn.deterministic, cudnn.benchmark) == inside
            raise MemoryError
        assert (cudnn.deterministic, cudnn.benchmark) == before
    finally:
        cudnn.deterministic, cudnn.benchmark = found


def test_a_cpu_has_no_streams() -> None:
    compute = Compute(torch.device("cpu"))
    assert compute.with_own_stream() is compute
    with compute.lane():
        compute.synchronize()
