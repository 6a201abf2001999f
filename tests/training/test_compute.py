"""How a training computes is set while it computes, and nothing stays set."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tskd_tune.contracts import Features
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


def test_auto_is_the_gpu_where_there_is_one_but_in_tests_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a test that names no device has the numbers, the groups and the engine of a CPU on every machine."""
    real: Any = Compute.choose.__wrapped__  # type: ignore[attr-defined]
    for there, chosen in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert real("auto", "float32", False, None).device.type == chosen
        assert Compute.choose("auto", "float32", False, None).device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Compute.choose("cuda", "float32", False, None).device.type == "cuda"


def test_a_cpu_has_no_streams() -> None:
    compute = Compute(torch.device("cpu"))
    assert compute.with_own_stream() is compute
    with compute.lane():
        compute.synchronize()


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (1, 4), (4, 1)])
def test_gradients_of_taps_have_the_memory_format_of_the_networks(size: tuple[int, int]) -> None:
    """Whatever format a loss gives; also where the sides have one pixel, so that both formats are the same memory."""
    images = torch.randn(2, 3, *size, requires_grad=True)
    seen: list[torch.Tensor] = []
    tap = images * 2
    images.register_hook(seen.append)
    Compute(torch.device("cpu"), channels_last=True).keep_arranged(Features({"stage": tap}, {}))
    given = torch.randn(2, 3, *size)
    tap.backward(given)
    assert torch.equal(seen[0], given * 2)
    height, width = size
    assert seen[0].stride() == (3 * height * width, 1, 3 * width, 3)
