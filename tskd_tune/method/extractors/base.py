"""The contract of an extractor: it predicts the next increment from a knowledge sequence (TSKD, Eq. 6)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor, nn

from tskd_tune.errors import InputError, reason
from tskd_tune.registry import Registry


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError(f"must be odd, so that the map keeps its size, got {size}")
    return size


OddInt = Annotated[PositiveInt, AfterValidator(_odd)]


@dataclass(frozen=True)
class ExtractorSite:
    """The place of an extractor: its tap, and the shape of its sequences.

    Attributes:
        steps: T, the length of the sequences.
        height: height of the maps, in pixels.
        width: width of the maps, in pixels.
        tap: the index of its tap, from 0.
        taps: the number of taps with an extractor of their own; 1 if all taps share one.
    """

    steps: int
    height: int
    width: int
    tap: int
    taps: int


class Extractor(nn.Module, ABC):
    """A predictor of one map from a sequence of maps.

    A constructor takes one positional argument, the `ExtractorSite`, and its options as keyword-only arguments.

    >>> class Mean(Extractor):
    ...     def __init__(self, site: ExtractorSite) -> None:
    ...         super().__init__()
    ...         self.scale = nn.Parameter(torch.ones(()))
    ...
    ...     def forward(self, sequence: Tensor) -> Tensor:
    ...         return self.scale * sequence.mean(0)
    >>> [mean] = build_extractors(Mean, steps=3, sizes=[(8, 8)])
    >>> mean(torch.zeros(3, 2, 1, 8, 8)).shape
    torch.Size([2, 1, 8, 8])

    Attributes:
        capturable: whether `forward` does the same operations in every step and never waits for the device, so that one
            captured CUDA graph can stand for all these steps.
        masks: whether `forward` also takes ``inside: Tensor | None = None``, ``[B, 1, H, W]`` of the sequence's type, 1
            in the image and 0 in the padding of images of different sizes. Then the prediction for an image is that
            for the image alone. The sequence is zero in the padding for every extractor.
    """

    capturable: bool = True
    masks: bool = False

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
    varying: bool = False,
) -> list[Extractor]:
    """Make one extractor per tap, or one for all taps, and try each on a sequence of zeros.

    Args:
        make: builds the extractor of a site.
        steps: T, the length of the sequences.
        sizes: ``(H, W)`` of every tap.
        share: whether all taps share one extractor, which is built for the size of the first tap.
        varying: whether batches have maps of several sizes, of which ``sizes`` are one example.

    Raises:
        InputError: the prediction of an extractor has another size than the maps of its tap.
    """
    if share:
        shared = make(ExtractorSite(steps, *sizes[0], tap=0, taps=1))
        for size in sizes:
            _try(shared, steps, size, varying)
        return [shared]
    extractors = [make(ExtractorSite(steps, *size, tap, len(sizes))) for tap, size in enumerate(sizes)]
    for extractor, size in zip(extractors, sizes, strict=True):
        _try(extractor, steps, size, varying)
    return extractors


def _try(extractor: Extractor, steps: int, size: tuple[int, int], varying: bool) -> None:
    _try_size(extractor, steps, size)
    if varying:
        for longer in ((size[0] + 1, size[1]), (size[0], size[1] + 1)):
            try:
                _try_size(extractor, steps, longer)
            except InputError as error:
                raise InputError(
                    f"review.extractor: the task's images have different sizes, and so have their maps, but: {error}"
                ) from error


def _try_size(extractor: Extractor, steps: int, size: tuple[int, int]) -> None:
    first = next(extractor.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            found = extractor(torch.zeros(steps, 1, 1, *size, dtype=first.dtype, device=first.device))
    except Exception as error:  # the extractor may be another's code
        raise InputError(
            f"review.extractor: {type(extractor).__name__} fails on a sequence {[steps, 1, 1, *size]}"
            f" ({reason(error)}); correct its forward, or choose another extractor"
        ) from error
    shape = list(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    if shape != [1, 1, *size]:
        raise InputError(
            f"review.extractor: {type(extractor).__name__} turned a sequence {[steps, 1, 1, *size]} into "
            f"{shape}, but a prediction must be {[1, 1, *size]}; keep the size of the maps"
        )
