"""Temporal attention: at each pixel the last step of a sequence attends to all steps.

Vaswani et al. 2017, arXiv 1706.03762, Eq. 1 and Sections 3.2 to 3.5. With x_t the maps, ``*`` a convolution, p_t the
encoding of the position of step t; W_q, W_k, W_v, W_o, W_1 and W_2 act at each pixel alone::

    z_t = leaky_relu(W_z * x_t + b_z) + p_t                  token of step t, d = hidden channels
    a_t = softmax over t of <W_q z_T, W_k z_t> / sqrt(d')    in each head, of d' = d / heads channels
    c   = z_T + W_o [sum_t a_t W_v z_t, all heads]
    s   = c + W_2 leaky_relu(W_1 c + b_1) + b_2
    prediction = W_h * s + b_h

There are no layer norms. They would give pixels that do not change the same scale as pixels that do, but a prediction
must keep the scale of the increments.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.method.extractors.base import EXTRACTORS, Extractor, ExtractorSite, OddInt
from tskd_tune.method.padding import masked

SLOPE = 0.2


@EXTRACTORS.register("temporal_attention", source="Vaswani et al. 2017, arXiv 1706.03762, Eq. 1, at each pixel")
class TemporalAttention(Extractor):
    """Attention of the last step to all steps, at each pixel, between two convolutions.

    Args:
        site: the tap of the extractor and the shape of its sequences.
        hidden: channels of a token; a multiple of ``heads``.
        heads: number of heads.
        kernel: height and width of the first and of the last convolution, in pixels, odd.
        position: what is added to the token of a step to show its number. ``sinusoidal``: sines and cosines of the
            number; ``learned``: a vector for each step, which begins as the sines and cosines; ``none``: nothing, so
            the order of the steps before the last has no effect.

    Raises:
        InputError: ``hidden`` is no multiple of ``heads``.
    """

    masks = True
    positions: Tensor | None

    def __init__(
        self,
        site: ExtractorSite,
        *,
        hidden: PositiveInt = 16,
        heads: PositiveInt = 2,
        kernel: OddInt = 3,
        position: Literal["sinusoidal", "learned", "none"] = "sinusoidal",
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise InputError(
                f"review.extractor.heads: {heads} heads cannot share {hidden} channels equally; "
                "set hidden to a multiple of heads"
            )
        self.heads = heads
        self.embedding = nn.Sequential(nn.Conv2d(1, hidden, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPE))
        self.query = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.key = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.value = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.join = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.mixing = nn.Sequential(
            nn.Conv2d(hidden, 2 * hidden, 1), nn.LeakyReLU(SLOPE), nn.Conv2d(2 * hidden, hidden, 1)
        )
        self.head = nn.Conv2d(hidden, 1, kernel, padding=kernel // 2)
        codes = None if position == "none" else sinusoids(site.steps, hidden)[:, None, :, None, None]
        if position == "learned" and codes is not None:
            self.positions = nn.Parameter(codes)
        else:
            self.register_buffer("positions", codes, persistent=False)

    def forward(self, sequence: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[T, B, 1, H, W]`` to ``[B, 1, H, W]``; the last convolution takes zeros where not ``inside``."""
        steps, batch = sequence.shape[:2]
        tokens: Tensor = self.embedding(sequence.flatten(0, 1)).unflatten(0, (steps, batch))
        if self.positions is not None:
            tokens = tokens + self.positions.to(tokens.dtype)
        state = tokens[-1] + self._attended(tokens)
        state = state + self.mixing(state)
        prediction: Tensor = self.head(masked(state, inside))
        return prediction

    def _attended(self, tokens: Tensor) -> Tensor:
        """Return what the last of the tokens ``[T, B, d, H, W]`` takes from all of them, ``[B, d, H, W]``."""
        heads, steps = (self.heads, -1), (len(tokens), -1)
        every = tokens.flatten(0, 1)
        query = self.query(tokens[-1]).unflatten(1, heads)
        keys = self.key(every).unflatten(1, heads).unflatten(0, steps)
        values = self.value(every).unflatten(1, heads).unflatten(0, steps)
        scores = (query * keys).sum(3, keepdim=True) / math.sqrt(query.shape[2])
        found: Tensor = self.join((scores.softmax(0) * values).sum(0).flatten(1, 2))
        return found


def sinusoids(steps: int, channels: int) -> Tensor:
    """Return the encodings of the positions, ``[T, d]`` (Vaswani et al. 2017, Section 3.5).

    >>> sinusoids(2, 2)  # sine and cosine of the positions 0 and 1
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])

    Args:
        steps: T, the number of positions.
        channels: d; channel 2i has the sine and channel 2i + 1 the cosine of position / 10000^(2i/d).
    """
    numbers = torch.arange(channels)
    rates = 10_000 ** (-2 * (numbers // 2) / channels)
    angles = torch.arange(steps)[:, None] * rates
    return torch.where(numbers % 2 == 0, angles.sin(), angles.cos())
