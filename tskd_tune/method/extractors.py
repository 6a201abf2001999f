"""What predicts the next increment from a knowledge sequence (TSKD, Eq. 6): the contract, and the ConvLSTM's rivals.

The paper's own extractor is in `conv_lstm`. The rivals ask how much of its effect a simpler predictor has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.registry import Registry


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"must be odd, so that the map keeps its size, got {size}")
    return size


OddInt = Annotated[PositiveInt, AfterValidator(_odd)]


@dataclass(frozen=True)
class ExtractorSite:
    """Where an extractor stands.

    Attributes:
        steps: T, the length of the sequences that it reads.
        height: of its maps, in pixels.
        width: of its maps, in pixels.
        tap: the index of its tap, from 0.
        taps: how many taps have an extractor of their own; 1 for a shared one.
    """

    steps: int
    height: int
    width: int
    tap: int
    taps: int


class Extractor(nn.Module, ABC):
    """A predictor of one map from a sequence of maps.

    A constructor takes one positional argument, the `ExtractorSite`, and its options as keyword-only arguments.
    """

    @abstractmethod
    def forward(self, sequence: Tensor) -> Tensor:
        """Map a sequence ``[T, B, 1, H, W]``, oldest first, to a prediction ``[B, 1, H, W]``."""


EXTRACTORS: Registry[Extractor] = Registry("extractors", Extractor)


def build_extractors(
    make: Callable[[ExtractorSite], Extractor],
    steps: int,
    sizes: Sequence[tuple[int, int]],
    *,
    share: bool = False,
) -> list[Extractor]:
    """Make one extractor a tap, or one for all, and try each on a sequence of zeros.

    Args:
        make: builds the extractor of a site.
        steps: T, the length of the sequences.
        sizes: ``(H, W)`` of every tap.
        share: whether one extractor, built for the first tap's size, serves all taps.

    Raises:
        InputError: an extractor does not keep the size of the maps of a tap that it serves.
    """
    if share:
        shared = make(ExtractorSite(steps, *sizes[0], tap=0, taps=1))
        for size in sizes:
            _try(shared, steps, size)
        return [shared]
    extractors = [make(ExtractorSite(steps, *size, tap, len(sizes))) for tap, size in enumerate(sizes)]
    for extractor, size in zip(extractors, sizes, strict=True):
        _try(extractor, steps, size)
    return extractors


def _try(extractor: Extractor, steps: int, size: tuple[int, int]) -> None:
    first = next(extractor.parameters(), torch.zeros(()))
    with torch.no_grad():
        found = extractor(torch.zeros(steps, 1, 1, *size, dtype=first.dtype, device=first.device))
    if found.shape != (1, 1, *size):
        raise InputError(
            f"review.extractor: {type(extractor).__name__} turned a sequence {[steps, 1, 1, *size]} into "
            f"{list(found.shape)}, but a prediction must be {[1, 1, *size]}; keep the size of the maps"
        )


@EXTRACTORS.register("conv_gru", source="Ballas et al. 2016, arXiv 1511.06432, Eq. 4-7")
class ConvGRU(Extractor):
    """A convolutional GRU over the sequence, and a 1x1 convolution of its last state.

    Args:
        site: where it stands.
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
        # The state before the first step is zero: nothing recurs yet, and there is nothing to reset.
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
    """Two 3-D convolutions over time and space, the second of which spans the whole sequence.

    Args:
        site: where it stands.
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
