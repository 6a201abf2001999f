"""What has no deterministic algorithm on a GPU is found by the names of operations, on any device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from tskd_tune.training.compute import Compute, Kernels
from tskd_tune.training.exactness import ADAPTIVE, INEXACT, Watch


def test_every_name_is_that_of_an_operation() -> None:
    owners = torch.ops.aten, torch.ops.torchvision
    assert [name for name in INEXACT if not any(hasattr(owner, name) for owner in owners)] == []
    assert INEXACT.keys() >= ADAPTIVE.keys()


BOXES = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
FOUND: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "resizing": ("bilinear resizing", lambda maps: F.interpolate(maps, (5, 5), mode="bilinear")),
    "pooling": ("pooling to a size that does not divide a map", lambda maps: F.adaptive_avg_pool2d(maps, (3, 4))),
    "maxima": ("maximum pooling to a size", lambda maps: F.adaptive_max_pool2d(maps, (4, 3))),
    "regions": ("roi_align", lambda maps: torchvision.ops.roi_align(maps, BOXES, (2, 2))),
    "rows": ("an embedding", lambda maps: F.embedding(torch.tensor([1, 1]), maps.flatten(1).t())),
    "gathered": ("gather", lambda maps: maps.gather(3, torch.zeros(1, 2, 8, 1, dtype=torch.int64))),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_adds_in_any_order_is_named(case: str) -> None:
    words, function = FOUND[case]
    with Watch() as watch:
        function(torch.ones(1, 2, 8, 8, requires_grad=True)).sum().backward()  # type: ignore[no-untyped-call]
    assert len(watch.found) == 1 and words in next(iter(watch.found))


@pytest.mark.parametrize("pool", [F.adaptive_avg_pool2d, F.adaptive_max_pool2d])
def test_pooling_to_a_size_that_divides_a_map_adds_nothing_twice(pool: Callable[[Tensor, int], Tensor]) -> None:
    with Watch() as watch:
        pool(torch.ones(1, 2, 8, 8, requires_grad=True), 4).sum().backward()  # type: ignore[no-untyped-call]
    assert not watch.found


@pytest.mark.parametrize(("device", "kernels", "fused"), [
    ("cuda", "deterministic", False), ("cuda", "fastest", True), ("cpu", "deterministic", True),
])  # fmt: skip
def test_fused_attention_is_used_where_its_bits_may_differ_or_do_not(
    device: str, kernels: Kernels, fused: bool
) -> None:
    cuda = torch.backends.cuda
    before = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    with Compute(torch.device(device), kernels=kernels).choosing_kernels():
        within = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()
    assert within == (before if fused else (False, False, False))
    assert (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.cudnn_sdp_enabled()) == before
    assert any(before)
