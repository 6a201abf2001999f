"""Checkpoints within epochs: an epoch of hours loses minutes where it is cut off."""

from __future__ import annotations

from collections.abc import Callable

from tskd_tune.contracts import Saved
from tskd_tune.training.checkpoint import Saver
from tskd_tune.training.observers import Observer, Training


class SavesWithin(Observer):
    """Writes a checkpoint after a step, if it is time for one; those at the ends of epochs are written elsewhere."""

    def __init__(self, saver: Saver, state: Callable[[], Saved | None]) -> None:
        """Write with ``saver`` what ``state`` returns; None: there is nothing to write any more."""
        self._saver = saver
        self._state = state

    def stepped(self, training: Training) -> None:
        """Write a checkpoint if it is due."""
        if self._saver.is_due_within and (state := self._state()) is not None:
            self._saver.save(state)
