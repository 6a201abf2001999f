"""Principal components of the channels (Pearson 1901), by power iteration (Golub and Van Loan, section 8.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from tskd_tune.contracts import exact
from tskd_tune.method.transforms.base import TRANSFORMS, Transform, unit_length

# Each takes scores `[B, M, P]` that are zero in the padding, and how many of their numbers are inside of an image: one
# number, or `[B, 1, 1]`.
_NORMS: Mapping[str, Callable[[Tensor, float | Tensor], Tensor]] = {
    "none": lambda scores, _: scores,
    "l2": lambda scores, _: unit_length(scores),
    "l2_rms": lambda scores, numbers: unit_length(scores) * numbers**0.5,
}


@TRANSFORMS.register("principal_components", source="Pearson 1901; power iteration and deflation: our reading")
class PrincipalComponents(Transform):
    """The first principal components of the channels of an image: its pixels are samples, its channels variables.

    Component n is the map ``X v_n`` of an image's features X, ``[H*W, C]``, where ``v_n`` (length 1) is the direction
    of largest variance that is orthogonal to those before. It is defined as the result of a fixed number of power
    iterations ``v <- X^T X v / |X^T X v|`` from the mean over the channels, on what the components before leave of X.
    So it is the same at every call, has a gradient, and a CUDA graph can stand for it. The start fixes the sign: the
    map covaries positively with the mean over the channels.

    A component has one number per pixel, whatever the number of channels. The review compares the n-th component of
    the student with the n-th of the teacher, one by one. If two components have almost the same variance, they can
    change places between two networks or two snapshots; the first is the safest.

    The components are computed in float32 at least, also under autocast. Features of zeros give maps of zeros and a
    gradient of zero. If X has fewer components than are asked for, the others are zero up to rounding, and no norm
    enlarges them.

    >>> import torch
    >>> PrincipalComponents()(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 1, 8, 8])

    Args:
        components: the number of components, and of maps.
        center: whether the mean over the pixels of an image is first subtracted from each channel. Without, the first
            component of features that are nowhere negative is nowhere negative either.
        steps: the number of power iterations per component. The error shrinks by the ratio of two successive variances
            per iteration; with few iterations the result is a blend of the first components.
        norm: how the maps are normalized. ``none``: not at all; ``l2``: all components of an image together to length
            1, so that weak components stay weak; ``l2_rms``: together to a root mean square of 1.
    """

    masks = True

    def __init__(
        self,
        *,
        components: PositiveInt = 1,
        center: bool = True,
        steps: PositiveInt = 10,
        norm: Literal["none", "l2", "l2_rms"] = "l2",
    ) -> None:
        super().__init__()
        self._components = components
        self._center = center
        self._steps = steps
        self._norm = _NORMS[norm]

    def forward(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, M, H, W]``, of float32 or wider; zero where not ``inside``."""
        height, width = features.shape[2:]
        counted = None if inside is None else inside.flatten(1).unsqueeze(1)
        # Autocast would narrow the products of matrices.
        with torch.autocast(features.device.type, enabled=False):
            pixels, numbers = self._pixels(exact(features).flatten(2), counted)
            scores = torch.stack(self._scores(pixels), 1)
        return self._norm(scores, self._components * numbers).view(-1, self._components, height, width)

    def _pixels(self, features: Tensor, inside: Tensor | None) -> tuple[Tensor, float | Tensor]:
        """Return the features ``[B, C, P]``, centered and zero in the padding, and the number of pixels inside."""
        if inside is None:
            return features - features.mean(2, keepdim=True) if self._center else features, features.shape[2]
        numbers = inside.sum(2, keepdim=True).to(features.dtype)
        pixels = features.where(inside, 0)
        if self._center:
            pixels = (pixels - pixels.sum(2, keepdim=True) / numbers).where(inside, 0)
        return pixels, numbers

    def _scores(self, pixels: Tensor) -> list[Tensor]:
        """Return the scores ``[B, P]`` of each component of ``[B, C, P]``."""
        found = []
        for _ in range(self._components):
            score, direction = pixels.mean(1, keepdim=True), pixels.new_zeros(())
            for _ in range(self._steps):
                direction = unit_length(unit_length(score) @ pixels.mT)
                score = direction @ pixels
            found.append(score.squeeze(1))
            pixels = pixels - direction.mT * score
        return found
