"""An autoregression of each pixel with weights of its own: what the sequence tells without space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite


@EXTRACTORS.register("pixel_ar", source="an autoregression of order T for each pixel, no paper")
class PixelAR(Extractor):
    """A weighted sum over the sequence with T weights and a bias for each pixel; it begins as the mean.

    ::

        prediction[h, w] = sum_t weight[t, h, w] * sequence[t, h, w] + bias[h, w]

    The weights belong to the pixels of one size, so `linear` must be used where maps have several sizes.
    """

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((site.steps, 1, 1, site.height, site.width), 1 / site.steps))
        self.bias = nn.Parameter(torch.zeros(site.height, site.width))

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``.

        Raises:
            InputError: maps of another size than the site's.
        """
        if sequence.shape[-2:] != self.bias.shape:
            made, given = ("x".join(map(str, shape)) for shape in (self.bias.shape, sequence.shape[-2:]))
            raise InputError(
                f"review.extractor: pixel_ar has weights for maps of {made} pixels but these are {given}; "
                "use linear, or one extractor per tap (share: false)"
            )
        return (self.weight * sequence).sum(0) + self.bias
