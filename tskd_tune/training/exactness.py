"""Finds the operations of a step that have no deterministic algorithm on a GPU.

cuDNN's algorithms are chosen (`tskd_tune.training.compute`). A few other operations add in any order, such as the
backward pass of bilinear resizing: then two runs of a seed differ in rounding.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tskd_tune.training.compute import Compute

# From the list of `torch.use_deterministic_algorithms`: what adds atomically on a GPU, by the name of the operation.
INEXACT = {
    "_adaptive_avg_pool2d_backward": "the backward pass of pooling to a size that does not divide a map",
    "_adaptive_avg_pool3d_backward": "the backward pass of pooling to a size that does not divide a map",
    "adaptive_max_pool2d_backward": "the backward pass of adaptive maximum pooling",
    "fractional_max_pool2d_backward": "the backward pass of fractional maximum pooling",
    "avg_pool3d_backward": "the backward pass of average pooling in 3 dimensions",
    "max_pool3d_with_indices_backward": "the backward pass of maximum pooling in 3 dimensions",
    "upsample_linear1d_backward": "the backward pass of linear resizing",
    "upsample_bilinear2d_backward": "the backward pass of bilinear resizing",
    "_upsample_bilinear2d_aa_backward": "the backward pass of bilinear resizing",
    "upsample_bicubic2d_backward": "the backward pass of bicubic resizing",
    "_upsample_bicubic2d_aa_backward": "the backward pass of bicubic resizing",
    "upsample_trilinear3d_backward": "the backward pass of trilinear resizing",
    "reflection_pad1d_backward": "the backward pass of reflection padding",
    "reflection_pad2d_backward": "the backward pass of reflection padding",
    "replication_pad1d_backward": "the backward pass of replication padding",
    "replication_pad2d_backward": "the backward pass of replication padding",
    "grid_sampler_2d_backward": "the backward pass of grid_sample",
    "nll_loss2d_forward": "the cross-entropy of pictures",
    "scatter_add": "scatter_add, or the backward pass of gather",
    "scatter_add_": "scatter_add, or the backward pass of gather",
    "scatter_reduce": "scatter_reduce",
    "index_add": "index_add, or the backward pass of index_select",
    "index_add_": "index_add, or the backward pass of index_select",
    "cumsum": "cumsum",
}


def matters(compute: Compute) -> bool:
    """Tell whether a training wants the same bits each time on a device that does not always give them."""
    return compute.device.type == "cuda" and compute.kernels == "deterministic"


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operations of a block, which do what they do without it.

    Attributes:
        found: what adds in any order on a GPU, in words, in the order in which it was met.
    """

    def __init__(self) -> None:
        """Find nothing yet."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Carry out an operation, and look at its name."""
        words = INEXACT.get(func.overloadpacket.__name__)
        if words is not None and isinstance(args[0], Tensor) and args[0].is_floating_point():
            self.found[words] = None
        return func(*args, **(kwargs or {}))


def warning(found: Collection[str]) -> str:
    """Say in one sentence which operations keep a training on a GPU from being repeated bit for bit."""
    return (
        f"training.kernels: torch has no deterministic algorithm on a GPU for {', '.join(found)}; so two runs of one"
        " seed differ in rounding"
    )
