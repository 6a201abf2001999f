"""Channel maps: the features themselves, one map per channel or per group of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from tskd_tune.contracts import exact
from tskd_tune.errors import InputError
from tskd_tune.method.transforms.base import EPSILON, TRANSFORMS, Transform, unit_length

# Each takes maps `[B, M, H, W]` that are zero in the padding, and how many of their numbers are inside of an image: one
# number, or `[B, 1, 1, 1]`.
_NORMS: Mapping[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "none": lambda maps, _: maps,
    "l2": lambda maps, _: unit_length(maps),
    "l2_rms": lambda maps, numbers: unit_length(maps) * numbers**0.5,
    "map_l2": lambda maps, _: F.normalize(maps.flatten(2), dim=2, eps=EPSILON).view_as(maps),
}


@TRANSFORMS.register(
    "channels",
    source="the maps that FitNets (Romero et al. 2015, arXiv 1412.6550) compares; groups and norms: our reading",
)
class Channels(Transform):
    """The channels of a layer, each as a map of its own; or the means of groups of neighboring channels.

    The review compares the maps one by one: the extractor takes all maps of a batch as samples, and the loss is the
    mean over the maps. So student and teacher need the same number of maps. If their numbers of channels differ, set
    ``groups`` to a number that divides both. Nothing in two networks makes their channels correspond, except a common
    initialization; `attention` and `principal_components` need no correspondence.

    >>> import torch
    >>> Channels()(torch.randn(2, 16, 8, 8)).shape, Channels(groups=4)(torch.randn(2, 64, 8, 8)).shape
    (torch.Size([2, 16, 8, 8]), torch.Size([2, 4, 8, 8]))

    Args:
        groups: the number of maps: the channels are cut into so many groups of neighbors, all of the same size, and a
            map is the mean of its group, with signs; null: one map per channel.
        norm: how the maps are normalized. ``none``: not at all; ``l2``: all maps of an image together to length 1, so
            that weak channels stay weak; ``l2_rms``: all maps of an image together to a root mean square of 1;
            ``map_l2``: each map to length 1 over its H*W pixels.

    Raises:
        InputError: in `forward`, if ``groups`` does not divide the number of channels.
    """

    masks = True

    def __init__(
        self, *, groups: PositiveInt | None = None, norm: Literal["none", "l2", "l2_rms", "map_l2"] = "l2"
    ) -> None:
        super().__init__()
        self._groups = groups
        self._norm = _NORMS[norm]

    def forward(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, M, H, W]``, of float32 or wider; zero where not ``inside``."""
        maps = self._grouped(exact(features))
        count, height, width = maps.shape[1:]
        if inside is None:
            return self._norm(maps, count * height * width)
        numbers = count * inside.sum((1, 2)).view(-1, 1, 1, 1).to(maps.dtype)
        return self._norm(maps.where(inside.unsqueeze(1), 0), numbers)

    def _grouped(self, features: Tensor) -> Tensor:
        if self._groups is None:
            return features
        if features.shape[1] % self._groups:
            raise InputError(
                f"review.transform.groups: {self._groups} groups of the same size cannot be made of a stage with "
                f"{features.shape[1]} channels; set groups to a number that divides the channels of every stage of "
                "student and teacher"
            )
        batch, _, height, width = features.shape
        return features.reshape(batch, self._groups, -1, height, width).mean(2)
