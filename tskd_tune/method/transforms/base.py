"""The contract of a transform: feature maps -> the maps on which a review compares networks (TSKD, Eq. 10)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.errors import InputError, reason
from tskd_tune.registry import Registry

EPSILON = 1e-12
"""The smallest length by which a map is divided; a map of zeros stays zero."""


class Transform(nn.Module, ABC):
    """Maps features ``[B, C, H, W]`` to maps ``[B, H, W]`` or ``[B, M, H, W]``, on which all networks are compared.

    Of several maps per image, the review compares each with its like: the extractor takes the maps of a batch as B*M
    samples, and the loss is the mean over the maps. M depends on the number of channels alone.

    Attributes:
        capturable: see `tskd_tune.method.extractors.base.Extractor`.
        masks: whether `forward` also takes ``inside: Tensor | None = None``, ``[B, H, W]`` of bool, False in the
            padding of images of different sizes. Then the map is zero there, and each map is normalized over the area
            of its image. Without it, the features are set to zero in the padding before, and the map after.
    """

    capturable: bool = True
    masks: bool = False

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to one map per image, ``[B, H, W]``, or to M maps per image, ``[B, M, H, W]``."""


TRANSFORMS: Registry[Transform] = Registry("transforms", Transform)


def unit_length(maps: Tensor) -> Tensor:
    """Scale each sample of ``[B, ...]`` to length 1; zeros stay zeros, and their gradient is finite."""
    return F.normalize(maps.flatten(1), dim=1, eps=EPSILON).view_as(maps)


def check_maps(transform: Transform, stage: str, channels: tuple[int, int], size: tuple[int, int]) -> None:
    """Try a transform on zeros.

    Args:
        transform: the transform.
        stage: the name of the tapped stage.
        channels: the numbers of channels of student and teacher.
        size: ``(H, W)`` of the tap.

    Raises:
        InputError: the maps have another size than the features, or student and teacher have different numbers of maps.
    """
    ours, theirs = (_maps_of(transform, (count, *size)) for count in channels)
    if ours != theirs:
        raise InputError(
            f"review.transform: {type(transform).__name__} makes {ours} maps of stage '{stage}' of the student "
            f"({channels[0]} channels), but {theirs} of the teacher ({channels[1]} channels), and a review compares "
            "map with map; set an option that fixes the number of maps, such as groups, or use attention"
        )


def _maps_of(transform: Transform, shape: tuple[int, int, int]) -> int:
    first = next(transform.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            found = transform(torch.zeros(1, *shape, dtype=first.dtype, device=first.device))
    except Exception as error:  # the transform may be another's code
        raise InputError(
            f"review.transform: {type(transform).__name__} fails on features {[1, *shape]} ({reason(error)}); correct"
            " its forward, or choose another transform"
        ) from error
    if not isinstance(found, Tensor):
        raise InputError(
            f"review.transform: {type(transform).__name__} gave a {type(found).__name__}, but must give maps, a tensor"
        )
    if found.dim() not in (3, 4) or found.shape[0] != 1 or found.shape[-2:] != shape[1:]:
        raise InputError(
            f"review.transform: {type(transform).__name__} turned features {[1, *shape]} into {list(found.shape)}, "
            f"but maps must be {[1, *shape[1:]]}, or {[1, 'M', *shape[1:]]}; keep height and width"
        )
    return found.shape[1] if found.dim() == 4 else 1
