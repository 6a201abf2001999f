"""Attention maps (TSKD, Eq. 10; Zagoruyko and Komodakis 2017, Eq. 2 and Section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from tskd_tune.contracts import exact
from tskd_tune.method.transforms.base import EPSILON, TRANSFORMS, Transform, unit_length

_REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda powers: powers.sum(1),
    "mean": lambda powers: powers.mean(1),
    "max": lambda powers: powers.amax(1),
}
# Each takes maps that are zero in the padding, and the number of pixels of an image: one number, or `[B, 1, 1]`.
_NORMS: Mapping[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "none": lambda maps, _: maps,
    "l2": lambda maps, _: unit_length(maps),
    "l2_rms": lambda maps, pixels: unit_length(maps) * pixels**0.5,
    "column_l2": lambda maps, _: F.normalize(maps, dim=1, eps=EPSILON),
    "sum1": lambda maps, _: maps / maps.sum((1, 2), keepdim=True).clamp_min(EPSILON),
}


@TRANSFORMS.register("attention", source="TSKD, Eq. 10; Zagoruyko and Komodakis 2017, arXiv 1612.03928")
class Attention(Transform):
    """The spatial attention map of a layer: powers of the absolute activations, reduced over the channels.

    The map is computed in float32 at least, also under autocast, because sums of squares exceed the range of half
    precision. A map of zeros stays zero, and its gradient is zero.

    >>> import torch
    >>> maps = Attention()(torch.randn(2, 16, 8, 8))
    >>> maps.shape
    torch.Size([2, 8, 8])
    >>> torch.allclose(maps.flatten(1).norm(dim=1), torch.ones(2))  # `norm: l2`: every map has length 1
    True

    Args:
        power: the exponent p of ``|F|^p``, the powers of the absolute activations F.
        reduce: how the powers of all channels of a pixel become one number; sum and mean differ only without a norm.
        norm: how a map is normalized. ``none``: not at all; ``l2``: to length 1 over its H*W pixels; ``l2_rms``: to a
            root mean square of 1 over its pixels; ``column_l2``: each column to length 1 over its H pixels, as in the
            authors' public code; ``sum1``: to a sum of 1.
    """

    masks = True

    def __init__(
        self,
        *,
        power: PositiveInt = 2,
        reduce: Literal["sum", "mean", "max"] = "sum",
        norm: Literal["none", "l2", "l2_rms", "column_l2", "sum1"] = "l2",
    ) -> None:
        super().__init__()
        self.power = power
        self._reduce = _REDUCTIONS[reduce]
        self._norm = _NORMS[norm]

    def forward(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, H, W]``, non-negative, of float32 or wider; zero where not ``inside``."""
        # Autocast narrows none of the operations below, so it is enough to widen their input.
        maps = self._reduce(self._powers(exact(features)))
        if inside is None:
            return self._norm(maps, maps.shape[1] * maps.shape[2])
        return self._norm(maps.where(inside, 0), inside.sum((1, 2), keepdim=True).to(maps.dtype))

    def _powers(self, features: Tensor) -> Tensor:
        # An even power needs no absolute value, which saves one pass over [B, C, H, W].
        return features.pow(self.power) if self.power % 2 == 0 else features.abs().pow(self.power)
