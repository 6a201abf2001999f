"""One kernel for a convolution with its bias, a sum and a ReLU, where the device has one.

oneDNN, torch's library for CPUs, has such kernels. Torch itself calls them through these operators when it compiles a
model; they have no public name, so only this module names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Filters = tuple[Tensor, Tensor]
"""The weight and the bias of a convolution."""


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Geometry:
        """Return the geometry of a layer."""
        return cls(conv.stride, conv.padding, conv.dilation, conv.groups)


def convolution(images: Tensor, filters: Filters, geometry: Geometry, other: Tensor | None, activates: bool) -> Tensor:
    """Return ``relu(conv(images) + bias + other)``; the sum only with ``other``, the ReLU only if ``activates``."""
    if other is None and not activates:
        return F.conv2d(images, *filters, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    if not isinstance(geometry.padding, str) and _is_fit(images) and (other is None or _is_fit(other)):
        return _on_cpu(images, filters, geometry, other, activates)
    output = F.conv2d(images, *filters, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    if other is not None:
        output += other
    return output.relu_() if activates else output


def _on_cpu(images: Tensor, filters: Filters, geometry: Geometry, other: Tensor | None, activates: bool) -> Tensor:
    kernel = torch.ops.mkldnn._convolution_pointwise
    shape = (geometry.padding, geometry.stride, geometry.dilation, geometry.groups)
    output: Tensor
    if other is None:
        output = kernel(images, *filters, *shape, "relu", [], "")
    else:
        output = kernel.binary(images, other, *filters, *shape, "add", None, "relu" if activates else None, [], "")
    return output


def _is_fit(maps: Tensor) -> bool:
    """Tell whether oneDNN takes maps ``[B, C, H, W]`` into its fused kernels: plainly channels last, on a CPU."""
    is_last = maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()
    return is_last and maps.device.type == "cpu" and _has_kernels(maps.dtype)


@cache
def _has_kernels(dtype: torch.dtype) -> bool:
    """Tell whether this processor and this version of torch have the kernels for a type; asked by trying one."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    image = torch.ones(1, 2, 2, 2, dtype=dtype).contiguous(memory_format=torch.channels_last)
    filters = torch.ones(2, 2, 1, 1, dtype=dtype), torch.ones(2, dtype=dtype)
    geometry = Geometry((1, 1), (0, 0), (1, 1), 1)
    try:
        alone = _on_cpu(image, filters, geometry, None, True)
        summed = _on_cpu(image, filters, geometry, image, True)
    except (AttributeError, RuntimeError):
        return False
    return bool((alone == 3).all() and (summed == 4).all())
