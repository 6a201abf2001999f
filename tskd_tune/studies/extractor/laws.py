"""Sequences of maps whose law is known: what the best possible forecast explains can be computed.

Each generator draws sequences of k maps and the map that follows them, from a random generator alone. Its ceiling is
the R^2 of the best forecast, the conditional mean of the target given the sequence.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

SIDE = 12
"""Height and width of the generated maps, in pixels."""


@dataclass(frozen=True)
class Drawn:
    """Sequences, and what follows them.

    Attributes:
        sequence: ``[k, B, 1, H, W]``, oldest first.
        target: ``[B, 1, H, W]``, the map that is to be predicted.
        best: ``[B, 1, H, W]``, the best forecast, which the generator knows.
    """

    sequence: Tensor
    target: Tensor
    best: Tensor


class Law(ABC):
    """How sequences are generated.

    Attributes:
        says: the law in one sentence.
        derivation: where the ceiling comes from.
    """

    says: ClassVar[str]
    derivation: ClassVar[str]

    @abstractmethod
    def draw(self, samples: int, k: int, random: torch.Generator) -> Drawn:
        """Draw ``samples`` sequences of k maps, and the map after each of them."""

    @abstractmethod
    def ceiling(self, k: int) -> float:
        """Return the R^2 of the best forecast for sequences of k maps."""


class Decay(Law):
    """Increments that shrink at a rate that each sequence has of its own.

    With amplitudes a ~ U(0.5, 1.5) of the pixels and rates rho ~ U(0.4, 1) of the sequences, map i is
    ``a rho^i``, i = 0, ..., k - 1. The target is ``a rho^k`` and noise of standard deviation 0.1. The best forecast
    needs two maps: ``x_{k-1}^2 / x_{k-2} = a rho^k``.
    """

    says = "each sequence shrinks at a rate of its own: a rho^i, and noise on the target"
    derivation = "Var(a rho^k) / (Var(a rho^k) + 0.1^2), from the moments of a and rho"
    amplitudes, rates, noise = (0.5, 1.5), (0.4, 1.0), 0.1

    def draw(self, samples: int, k: int, random: torch.Generator) -> Drawn:
        """Draw amplitudes, rates and noise."""
        amplitude = _uniform((samples, 1, SIDE, SIDE), self.amplitudes, random)
        rate = _uniform((samples, 1, 1, 1), self.rates, random)
        maps = torch.stack([amplitude * rate**step for step in range(k + 1)])
        return Drawn(maps[:-1], maps[-1] + self.noise * torch.randn(maps.shape[1:], generator=random), maps[-1])

    def ceiling(self, k: int) -> float:
        """Return the share of the target's variance that is not noise."""
        moments = [_moment(self.amplitudes, order) * _moment(self.rates, order * k) for order in (1, 2)]
        variance = moments[1] - moments[0] ** 2
        return variance / (variance + self.noise**2)


class Blob(Law):
    """A bright spot that moves one pixel in each step, in one of four directions, and noise on the target.

    A spot is a Gaussian of standard deviation 0.8 pixels, and each map has two spots with directions of their own. The
    target and the two maps before it have their spots inside the map, so the last two maps show both directions.
    """

    says = "two spots move one pixel a step, each in one of four directions of its own, and noise on the target"
    derivation = "1 - 0.03^2 / Var(target), for the generator's own forecast, which knows position and direction"
    width, noise, spots = 0.8, 0.03, 2

    def draw(self, samples: int, k: int, random: torch.Generator) -> Drawn:
        """Draw where the spots end, their directions and the noise."""
        end = torch.randint(2, SIDE - 2, (self.spots, samples, 2), generator=random)
        toward = torch.tensor(_DIRECTIONS)[torch.randint(len(_DIRECTIONS), (self.spots, samples), generator=random)]
        maps = torch.stack([self._painted(end - step * toward) for step in range(k, -1, -1)])
        return Drawn(maps[:-1], maps[-1] + self.noise * torch.randn(maps.shape[1:], generator=random), maps[-1])

    def _painted(self, centers: Tensor) -> Tensor:
        """Return maps ``[B, 1, H, W]`` with spots at the centers ``[spots, B, 2]``."""
        pixels = torch.arange(SIDE)
        sides = torch.exp(-((pixels - centers[..., None]) ** 2) / (2 * self.width**2))
        return (sides[..., 0, :, None] * sides[..., 1, None, :]).sum(0).unsqueeze(1)

    def ceiling(self, k: int) -> float:
        """Return the share of the target's variance that is not noise; the positions are enumerated."""
        inside = torch.arange(2, SIDE - 2)
        grid = torch.cartesian_prod(inside, inside)
        maps = self._painted(grid[None]).double()
        variance = self.spots * maps.var(0, unbiased=False).mean().item()  # two independent spots, summed
        return variance / (variance + self.noise**2)


class Oscillation(Law):
    """Pixels that follow an autoregression of order 2, independent of one another.

    ``x_t = 0.6 x_{t-1} - 0.8 x_{t-2} + e_t`` with standard normal e_t, from its stationary law.
    """

    says = "each pixel follows x_t = 0.6 x_{t-1} - 0.8 x_{t-2} + noise"
    derivation = "1 - Var(e) / Var(x), by the Yule-Walker equations"
    weights = (0.6, -0.8)

    def draw(self, samples: int, k: int, random: torch.Generator) -> Drawn:
        """Draw two maps of the stationary law, and the rest by the recursion."""
        shape = (samples, 1, SIDE, SIDE)
        variance, covariance = self._moments()
        first = math.sqrt(variance) * torch.randn(shape, generator=random)
        left = math.sqrt(variance - covariance**2 / variance)
        maps = [first, covariance / variance * first + left * torch.randn(shape, generator=random)]
        while len(maps) < k + 1:
            maps.append(self._next(maps) + torch.randn(shape, generator=random))
        return Drawn(torch.stack(maps[:k]), maps[k], self._next(maps[:k]))

    def _next(self, maps: list[Tensor]) -> Tensor:
        return self.weights[0] * maps[-1] + self.weights[1] * maps[-2]

    def _moments(self) -> tuple[float, float]:
        """Return the variance and the covariance of neighbors in time."""
        first, second = self.weights
        variance = (1 - second) / ((1 + second) * ((1 - second) ** 2 - first**2))
        return variance, variance * first / (1 - second)

    def ceiling(self, k: int) -> float:
        """Return the share of the variance that is not the last noise."""
        return 1 - 1 / self._moments()[0]


class Noise(Law):
    """Independent standard normal pixels: there is nothing to predict."""

    says = "independent normal numbers"
    derivation = "0, since the target is independent of the sequence"

    def draw(self, samples: int, k: int, random: torch.Generator) -> Drawn:
        """Draw everything from one normal law."""
        maps = torch.randn(k + 1, samples, 1, SIDE, SIDE, generator=random)
        return Drawn(maps[:-1], maps[-1], torch.zeros_like(maps[-1]))

    def ceiling(self, k: int) -> float:
        """Return 0."""
        return 0.0


LAWS: Mapping[str, Law] = {"decay": Decay(), "blob": Blob(), "ar2": Oscillation(), "noise": Noise()}
_DIRECTIONS = [(-1, 0), (0, -1), (0, 1), (1, 0)]


def _uniform(shape: tuple[int, ...], ends: tuple[float, float], random: torch.Generator) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * torch.rand(shape, generator=random)


def _moment(ends: tuple[float, float], order: int) -> float:
    """Return E[X^order] of a uniform X."""
    low, high = ends
    return (high ** (order + 1) - low ** (order + 1)) / ((order + 1) * (high - low))
