"""The extractors: the paper's ConvLSTM, and simpler predictors to compare with it."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.method.conv_lstm import ConvLSTM
from tskd_tune.method.extractor import EXTRACTORS, Extractor, ExtractorSite, OddInt, build_extractors

__all__ = [
    "EXTRACTORS",
    "Conv3d",
    "ConvGRU",
    "ConvLSTM",
    "Extractor",
    "ExtractorSite",
    "LastStep",
    "Linear",
    "OddInt",
    "build_extractors",
]


@EXTRACTORS.register("conv_gru", source="Ballas et al. 2016, arXiv 1511.06432, Eq. 4-7")
class ConvGRU(Extractor):
    """A convolutional GRU over the sequence, and a 1x1 convolution of its last state.

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels of the state.
        kernel: height and width of the convolutions, in pixels, odd.
    """

    def __init__(self, site: ExtractorSite, *, hidden: PositiveInt = 16, kernel: OddInt = 3) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, 3 * hidden, kernel, padding=kernel // 2)
        self.gates = nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.candidate = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, bias=False)
        self.head = nn.Conv2d(hidden, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        steps, batch = sequence.shape[:2]
        first, *rest = self.input(sequence.flatten(0, 1)).unflatten(0, (steps, batch))
        # The state before the first step is zero, so the recurrent terms and the reset gate have no effect.
        update, _, candidate = first.chunk(3, 1)
        state = update.sigmoid() * candidate.tanh()
        for projected in rest:
            state = self._step(projected, state)
        prediction: Tensor = self.head(state)
        return prediction

    def _step(self, projected: Tensor, state: Tensor) -> Tensor:
        gates, channels = self.gates(state), 2 * state.shape[1]
        update, reset = (projected[:, :channels] + gates).sigmoid().chunk(2, 1)
        candidate = (projected[:, channels:] + self.candidate(reset * state)).tanh()
        return torch.lerp(state, candidate, update)


@EXTRACTORS.register("conv3d", source="Tran et al. 2015, arXiv 1412.0767")
class Conv3d(Extractor):
    """Two 3-D convolutions over time and space; the second one spans the whole sequence.

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels between the two convolutions.
        kernel: height and width of the convolutions in pixels, and length of the first one in steps, odd.
    """

    def __init__(self, site: ExtractorSite, *, hidden: PositiveInt = 16, kernel: OddInt = 3) -> None:
        super().__init__()
        border = kernel // 2
        self.layers = nn.Sequential(
            nn.Conv3d(1, hidden, kernel, padding=border),
            nn.LeakyReLU(0.2),
            nn.Conv3d(hidden, 1, (site.steps, kernel, kernel), padding=(0, border, border)),
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.layers(sequence.movedim(0, 2))
        return prediction.squeeze(2)


@EXTRACTORS.register("last_step", source="the persistence forecast, scaled")
class LastStep(Extractor):
    """The last element of the sequence, times a weight and plus a bias that are learned."""

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.head(sequence[-1])
        return prediction


@EXTRACTORS.register("linear", source="an autoregression of a pixel on its T past values")
class Linear(Extractor):
    """A weighted sum over the sequence, the same T weights and bias for every pixel."""

    def __init__(self, site: ExtractorSite) -> None:
        super().__init__()
        self.head = nn.Conv2d(site.steps, 1, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``."""
        prediction: Tensor = self.head(sequence.squeeze(2).movedim(0, 1))
        return prediction
