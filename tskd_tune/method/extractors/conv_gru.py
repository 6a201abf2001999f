"""A convolutional GRU, a rival of the ConvLSTM with fewer gates (Ballas et al. 2016, arXiv 1511.06432, Eq. 4-7)."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite, OddInt
from tskd_tune.method.padding import masked


@EXTRACTORS.register("conv_gru", source="Ballas et al. 2016, arXiv 1511.06432, Eq. 4-7")
class ConvGRU(Extractor):
    """A convolutional GRU over the sequence, and a 1x1 convolution of its last state.

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels of the state.
        kernel: height and width of the convolutions, in pixels, odd.
    """

    masks = True

    def __init__(self, site: ExtractorSite, *, hidden: PositiveInt = 16, kernel: OddInt = 3) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, 3 * hidden, kernel, padding=kernel // 2)
        self.gates = nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2, bias=False)
        self.candidate = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, bias=False)
        self.head = nn.Conv2d(hidden, 1, 1)

    def forward(self, sequence: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``; the state is zero where not ``inside``."""
        steps, batch = sequence.shape[:2]
        first, *rest = self.input(sequence.flatten(0, 1)).unflatten(0, (steps, batch))
        # The state before the first step is zero, so the recurrent terms and the reset gate have no effect.
        update, _, candidate = first.chunk(3, 1)
        state = masked(update.sigmoid() * candidate.tanh(), inside)
        for projected in rest:
            state = masked(self._step(projected, state), inside)
        prediction: Tensor = self.head(state)
        return prediction

    def _step(self, projected: Tensor, state: Tensor) -> Tensor:
        gates, channels = self.gates(state), 2 * state.shape[1]
        update, reset = (projected[:, :channels] + gates).sigmoid().chunk(2, 1)
        candidate = (projected[:, channels:] + self.candidate(reset * state)).tanh()
        return torch.lerp(state, candidate, update)
