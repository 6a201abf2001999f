"""The numbers of an event that curves are drawn of."""

from __future__ import annotations

from tskd_tune.records.entries.events import Event

# Numbers of a history line that are no figures of the epoch.
NAMES = frozenset({"seed", "epoch"})


def figures(event: Event) -> dict[str, float]:
    """Return the numbers of an epoch, by their names in the history."""
    found = (event.metrics or {}).items()
    return {
        name: float(value)
        for name, value in found
        if name not in NAMES and isinstance(value, int | float) and not isinstance(value, bool)
    }


def training(event: Event) -> str:
    """Return the name of the training of an event, which is unique in its run."""
    if event.seed is None:
        return f"teacher-{event.run or event.arm}"
    return f"{event.run}-seed{event.seed}"
