"""The mean of each loss over the steps of an epoch, which stays on the device until the epoch ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tskd_tune.contracts import Saved
from tskd_tune.errors import DivergedError


class Means:
    """Running sums of losses, by name; an epoch waits for the device once, when it asks for the means."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.begin()

    def begin(self) -> None:
        """Start the sums of an epoch at zero, in place: a captured graph adds to them."""
        for total in self._sums.values():
            total.zero_()
        self._counts: dict[str, int] = {}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Add the losses of a step."""
        for name, loss in found.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(loss)
            self._sums[name] += loss

    def count(self, names: Iterable[str]) -> None:
        """Count a step that had these losses."""
        for name in names:
            self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Return the mean of each loss over the steps that had the loss; this waits for the device, once."""
        if not self._counts:
            return {}
        totals = torch.stack([self._sums[name].double() for name in self._counts]).tolist()
        return {name: total / count for (name, count), total in zip(self._counts.items(), totals, strict=True)}

    def state_dict(self) -> Saved:
        """Return the sums, so that an epoch can go on in another process."""
        return {"sums": {name: self._sums[name] for name in self._counts}, "counts": dict(self._counts)}

    def load_state_dict(self, state: Saved, device: torch.device) -> None:
        """Go on with saved sums, on a device."""
        self._sums = {name: total.to(device, copy=True) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])


def refuse_divergence(epoch: int, means: Mapping[str, float]) -> None:
    """Refuse an epoch with a loss that is not finite.

    Raises:
        DivergedError: a mean is infinite or no number.
    """
    if not all(math.isfinite(mean) for mean in means.values()):
        found = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        raise DivergedError(
            f"epoch {epoch}: the loss is not finite ({found}); lower training.lr or review.lambda,"
            " or use a transform whose norm is not none"
        )
