"""Tells the loss of a machine from the death of a process: only the second counts as a failure of a trial.

When a machine dies, its workers end first, and the cluster takes it for alive for some more seconds. A trial that began
again on it would lose one try after the other.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ray.exceptions import NodeDiedError, RayActorError

from tskd_tune.sweeps.machines.nodes import Node
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError

CONNECT_SECONDS: Final = 1.0
FAIL_SECONDS: Final = 60.0
"""Within this time after a machine is found to be lost, all of its trials have failed."""
MOST: Final = 10
"""So many machines may be lost under a trial; a trial that uses up the memory of each machine then fails."""


def is_loss(error: BaseException) -> bool:
    """Tell whether a worker was lost with its process or its machine, and not by an error that its code raised."""
    if isinstance(error, BrokenTrialError):
        return error.lost_worker
    return isinstance(error, RayActorError | NodeDiedError) and not getattr(error, "actor_init_failed", False)


def says_lost_node(text: str) -> bool:
    """Tell whether Ray's message about a lost worker says that its machine has died."""
    return "node" in text and "worker process has died" not in text


class Machines:
    """The machines on which the trials of a sweep run, and when each of them was found to be lost."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Know no machine yet; ``clock`` counts seconds."""
        self._clock = clock
        self._seen: dict[str, Node] = {}
        self._lost: dict[str, float] = {}

    def look(self, alive: Iterable[Node]) -> None:
        """Note which machines the cluster takes for alive, and that the others of before are lost."""
        now = {node.id: node for node in alive}
        self._seen |= now
        for name in self._seen.keys() - now.keys():
            self._lost.setdefault(name, self._clock())

    def lost(self, alive: Sequence[Node], address: str | None) -> list[Node]:
        """Return the machines that may have taken a trial with them.

        A machine may be dead although the cluster does not know it yet. The trials of one machine fail one after the
        other, so the machine is returned again for a minute.

        Args:
            alive: the machines that the cluster takes for alive.
            address: the IP address of the trial's machine; None: unknown, so all machines are asked.
        """
        self.look(alive)
        for node in alive:
            if node.id not in self._lost and address in (None, node.address) and _refuses(node):
                self._lost[node.id] = self._clock()
        recent = [self._seen[name] for name, when in self._lost.items() if self._clock() - when < FAIL_SECONDS]
        return [node for node in recent if address in (None, node.address)]


def is_silent(node: Node) -> bool:
    """Tell whether a machine does not answer at all, which no process on it can bring about.

    The kernel answers where Ray listens, however busy the machine is.
    """
    try:
        socket.create_connection((node.address, node.port), timeout=CONNECT_SECONDS).close()
    except TimeoutError:
        return True
    except OSError as error:
        return error.errno == errno.EHOSTUNREACH
    return False


def _refuses(node: Node) -> bool:
    """Tell whether nothing listens where the machine's Ray did; a machine that does not answer may come back."""
    try:
        socket.create_connection((node.address, node.port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
