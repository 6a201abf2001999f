"""The epochs at which the paper lowers the learning rate, for a training of any length."""

from __future__ import annotations

# The paper's drops at epochs 150, 180 and 210 of 240, as shares of a training of any length.
DROP_SHARES = (150 / 240, 180 / 240, 210 / 240)


def scaled_milestones(epochs: int) -> list[int]:
    """Return the paper's learning-rate drops, scaled to a training of ``epochs``; 240 gives 150, 180, 210."""
    return sorted({round(share * epochs) for share in DROP_SHARES} - {0, epochs})
