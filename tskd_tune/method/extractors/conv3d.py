"""A convolution over time and space, a rival of the ConvLSTM without a state (Tran et al. 2015, arXiv 1412.0767)."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite, OddInt
from tskd_tune.method.padding import masked


@EXTRACTORS.register("conv3d", source="Tran et al. 2015, arXiv 1412.0767")
class Conv3d(Extractor):
    """Two 3-D convolutions over time and space; the second one spans the whole sequence.

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels between the two convolutions.
        kernel: height and width of the convolutions in pixels, and length of the first one in steps, odd.
    """

    masks = True

    def __init__(self, site: ExtractorSite, *, hidden: PositiveInt = 16, kernel: OddInt = 3) -> None:
        super().__init__()
        border = kernel // 2
        self.layers = nn.Sequential(
            nn.Conv3d(1, hidden, kernel, padding=border),
            nn.LeakyReLU(0.2),
            nn.Conv3d(hidden, 1, (site.steps, kernel, kernel), padding=(0, border, border)),
        )

    def forward(self, sequence: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``; the second convolution takes zeros where not ``inside``."""
        first, activation, last = self.layers
        between = activation(first(sequence.movedim(0, 2)))
        prediction: Tensor = last(masked(between, None if inside is None else inside.unsqueeze(2)))
        return prediction.squeeze(2)
