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
# Where order matters only if two values are put at one place, as in index_put and scatter, an operation is left out.
INEXACT = {
    "_adaptive_avg_pool2d_backward": "the backward pass of pooling to a size that does not divide a map",
    "_adaptive_avg_pool3d_backward": "the backward pass of pooling to a size that does not divide a map",
    "adaptive_max_pool2d_backward": "the backward pass of maximum pooling to a size that does not divide a map",
    "adaptive_max_pool3d_backward": "the backward pass of maximum pooling to a size that does not divide a map",
    "fractional_max_pool2d_backward": "the backward pass of fractional maximum pooling",
    "fractional_max_pool3d_backward": "the backward pass of fractional maximum pooling",
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
    "reflection_pad3d_backward": "the backward pass of reflection padding",
    "replication_pad1d_backward": "the backward pass of replication padding",
    "replication_pad2d_backward": "the backward pass of replication padding",
    "replication_pad3d_backward": "the backward pass of replication padding",
    "grid_sampler_2d_backward": "the backward pass of grid_sample",
    "grid_sampler_3d_backward": "the backward pass of grid_sample",
    "cudnn_grid_sampler_backward": "the backward pass of grid_sample",
    "nll_loss2d_forward": "the cross-entropy of pictures",
    "_ctc_loss_backward": "the backward pass of ctc_loss",
    "embedding_dense_backward": "the backward pass of an embedding",
    "scatter_add": "scatter_add, or the backward pass of gather",
    "scatter_add_": "scatter_add, or the backward pass of gather",
    "scatter_reduce": "scatter_reduce",
    "scatter_reduce_": "scatter_reduce",
    "index_add": "index_add, or the backward pass of index_select",
    "index_add_": "index_add, or the backward pass of index_select",
    "index_reduce": "index_reduce",
    "index_reduce_": "index_reduce",
    "cumsum": "cumsum",
    # Fused attention by its own name; `Compute.choosing_kernels` keeps scaled_dot_product_attention from using it.
    "_flash_attention_backward": "the backward pass of fused attention",
    "_efficient_attention_backward": "the backward pass of fused attention",
    "_scaled_dot_product_flash_attention_backward": "the backward pass of fused attention",
    "_scaled_dot_product_efficient_attention_backward": "the backward pass of fused attention",
    "_scaled_dot_product_cudnn_attention_backward": "the backward pass of fused attention",
    # torchvision's, which detectors and distillers of regions use.
    "_roi_align_backward": "the backward pass of roi_align",
    "_roi_pool_backward": "the backward pass of roi_pool",
    "_ps_roi_align_backward": "the backward pass of ps_roi_align",
    "_ps_roi_pool_backward": "the backward pass of ps_roi_pool",
    "_deform_conv2d_backward": "the backward pass of deformable convolutions",
}
ADAPTIVE = {
    "_adaptive_avg_pool2d_backward": 2,
    "_adaptive_avg_pool3d_backward": 3,
    "adaptive_max_pool2d_backward": 2,
    "adaptive_max_pool3d_backward": 3,
}
"""Operation -> how many dimensions it pools; where each size divides that of the map, no two windows overlap."""


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
        name = func.overloadpacket.__name__
        words = INEXACT.get(name)
        is_met = words is not None and isinstance(args[0], Tensor) and args[0].is_floating_point()
        if is_met and (name not in ADAPTIVE or _overlap(args[0], args[1], ADAPTIVE[name])):
            self.found[str(words)] = None
        return func(*args, **(kwargs or {}))


def _overlap(pooled: Tensor, map_: Tensor, dims: int) -> bool:
    """Tell whether windows overlap that pool a map ``[.., sizes]`` to the size of ``pooled``, its last dimensions."""
    return any(size % to for size, to in zip(map_.shape[-dims:], pooled.shape[-dims:], strict=True))


def warning(found: Collection[str]) -> str:
    """Say in one sentence which operations keep a training on a GPU from being repeated bit for bit."""
    return (
        f"training.kernels: torch has no deterministic algorithm on a GPU for {', '.join(found)}; so two runs of one"
        " seed differ in rounding"
    )
