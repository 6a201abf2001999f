"""Passes the events of a run on to its callbacks, so that a slow or failing callback never slows or breaks the run."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tskd_tune.callbacks.base import Callback, Heard, build
from tskd_tune.errors import reason
from tskd_tune.outside import short_name
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.registry import Component

MOST_WAITING: Final = 10_000
"""How many events a callback may be behind; later ones are left out."""
LAST_SECONDS: Final = 10.0
"""How long the end of a run waits for its callbacks, all of them together."""


class Hearer:
    """A callback in a thread of its own, with a queue of events."""

    def __init__(self, name: str, callback: Callback, most: int = MOST_WAITING) -> None:
        """Start the thread; ``most`` is how many events may wait."""
        self._name = name
        self._callback = callback
        self._waiting: queue.Queue[Event | None] = queue.Queue(most)
        self._problems: deque[str] = deque()
        self._told: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"callback {name}", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Let the callback hear an event later; this never waits."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self._blame("full", f"is {self._waiting.maxsize:,} events behind; it does not hear some of the next events")

    def problems(self) -> Iterator[str]:
        """Return the sentences on errors that are new since the last call."""
        while self._problems:
            yield self._problems.popleft()

    def close(self, seconds: float) -> None:
        """Let the callback hear what waits and close, but wait no longer than some seconds."""
        self._over.set()
        with_end = not self._waiting.full()
        if with_end:
            self._waiting.put_nowait(None)  # wakes the thread
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            left = self._waiting.qsize() - with_end
            rest = f"; {left} events are left unheard" if left else ""
            self._blame(
                "slow", f"is still busy {LAST_SECONDS:g} s after the end of the run, which waits no longer{rest}"
            )

    def _work(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._callback.hear(event)
            except (Exception, SystemExit) as error:  # a callback is the user's code
                self._blame(event.what, f"failed at the event '{event.what}' ({reason(error)}); the run goes on")
        try:
            self._callback.close()
        except (Exception, SystemExit) as error:
            self._blame("close", f"failed when it was closed ({reason(error)})")

    def _next(self) -> Event | None:
        while True:
            try:
                return self._waiting.get(timeout=1.0)
            except queue.Empty:
                if self._over.is_set():
                    return None

    def _blame(self, kind: str, sentence: str) -> None:
        """Keep a sentence on an error, once per kind."""
        if kind not in self._told:
            self._told.add(kind)
            self._problems.append(f"callback {self._name} {sentence}")


@contextmanager
def heard(components: Sequence[Component], run: Heard, listener: Listener) -> Iterator[Listener]:
    """Let callbacks hear all events until the end of the block, which is an event itself.

    The listener hears each event first, and each error of a callback as an event ``note``.

    Raises:
        InputError: a callback cannot be built.
    """
    hearers = [Hearer(short_name(one.name), build(one, run)) for one in components]

    def tell(event: Event) -> None:
        listener(event)
        for hearer in hearers:
            hearer.tell(event)
            for problem in hearer.problems():
                listener(Event("note", "", reason=f"warning: {problem}"))

    try:
        tell(Event("begun", ""))
        yield tell
    except BaseException as error:
        tell(Event("ended", "", reason=str(error).strip() or type(error).__name__))
        raise
    else:
        tell(Event("ended", ""))
    finally:
        _close(hearers, listener)


def _close(hearers: Sequence[Hearer], listener: Listener) -> None:
    until = time.monotonic() + LAST_SECONDS
    for hearer in hearers:
        hearer.close(until - time.monotonic())
        for problem in hearer.problems():
            listener(Event("note", "", reason=f"warning: {problem}"))
