"""How images of different sizes are scaled, mirrored, and padded to one size for a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Scaling:
    """How images are scaled and mirrored, and what batches are padded to.

    Attributes:
        short_side: pixels of the shorter side, in evaluations, and in trainings without `multi_scale`.
        long_side: pixels that the longer side has at most; the shorter side is then below `short_side`.
        multi_scale: lengths of the shorter side of which each training image gets one, anew in every epoch.
        flip: whether a random half of the training images is mirrored, anew in every epoch.
        pad_to: height and width of a batch are multiples of this.
    """

    short_side: int
    long_side: int
    multi_scale: tuple[int, ...] = ()
    flip: bool = False
    pad_to: int = 32

    def plain(self) -> Scaling:
        """Return what evaluations use: one scale and no mirror images."""
        return replace(self, multi_scale=(), flip=False)

    def draw(self, samples: int, generator: torch.Generator) -> NDArray[np.int64]:
        """Draw the shorter side and the mirroring of each sample, ``[N, 2]``; both are always drawn."""
        numbers = torch.randint(0, 2**31, (2, samples), generator=generator).numpy()
        sides = np.array(self.multi_scale or (self.short_side,))
        return np.stack([sides[numbers[0] % len(sides)], numbers[1] % 2 * self.flip], axis=1)

    def none(self, samples: int) -> NDArray[np.int64]:
        """Return what `draw` would return if nothing were random: the scale of evaluations, not mirrored."""
        return np.tile(np.array([self.short_side, 0]), (samples, 1))

    def scaled(self, sizes: NDArray[np.int64], sides: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return height and width ``[N, 2]`` of images of these sizes ``[N, 2]``, with shorter sides ``[N]``."""
        factors = np.minimum(sides / sizes.min(axis=1), self.long_side / sizes.max(axis=1))
        scaled: NDArray[np.int64] = np.maximum(1, np.floor(sizes * factors[:, None] + 0.5)).astype(np.int64)
        return scaled

    def canvas(self, sizes: NDArray[np.int64]) -> tuple[int, int]:
        """Return height and width of a batch of images of these sizes ``[B, 2]``."""
        height, width = (-(-sizes.max(axis=0) // self.pad_to) * self.pad_to).tolist()
        return height, width
