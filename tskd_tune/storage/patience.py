"""Repeats what a storage refuses for a while: throttled, away for minutes, or until somebody renews credentials."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from tskd_tune.storage.failures import StorageError

T = TypeVar("T")

SECONDS: Final = 900.0
"""Seconds for which a process repeats a request before it gives up."""

TELL_EVERY: Final = 30.0
SHORTEST, LONGEST = 1.0, 20.0


class Patience:
    """Repeats requests until they succeed; the pause between two tries grows from 1 s to 20 s."""

    def __init__(
        self, tell: Callable[[str], None], seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Repeat for ``seconds`` (None: `SECONDS`).

        ``tell`` hears a sentence at the first failure, then every 30 s, and when all is well again.
        """
        self.seconds = SECONDS if seconds is None else seconds
        self._tell = tell
        self._clock = clock
        self._hurry = threading.Event()

    def repeat(self, act: Callable[[], T]) -> T:
        """Return what ``act`` returns.

        Raises:
            StorageError: the storage failed until the time was up.
        """
        began = self._clock()
        pause, told = SHORTEST, -TELL_EVERY
        while True:
            try:
                found = act()
            except StorageError as error:
                waited = self._clock() - began
                if waited + pause > self.seconds:
                    raise
                if waited - told >= TELL_EVERY:
                    told = waited
                    self._tell(_waiting(error, self.seconds - waited))
            else:
                if told >= 0:
                    self._tell("the storage works again; nothing was lost")
                return found
            self._hurry.wait(pause)
            pause = min(2 * pause, LONGEST)

    def shorten(self, seconds: float) -> None:
        """Wait for at most ``seconds`` in all, because the process ends."""
        self.seconds = min(self.seconds, seconds)


def _waiting(error: StorageError, left: float) -> str:
    place = str(error).partition(": ")[0]
    return (
        f"{place}: {error.problem}; the training goes on, what is to be kept there waits on this machine, and is tried"
        f" again for {left:.0f} s"
    )
