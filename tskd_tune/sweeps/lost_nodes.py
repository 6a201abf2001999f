"""Tells the loss of a machine from the death of a process: only the second counts as a failure of a trial.

When a machine dies, its workers end first, and the cluster takes it for alive for some more seconds. A trial that began
again on it would lose one try after the other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from ray.exceptions import NodeDiedError, RayActorError

from tskd_tune.sweeps.nodes import Node

CONNECT_SECONDS: Final = 1.0
MOST: Final = 10
"""So many machines may be lost under a trial; a trial that uses up the memory of each machine then fails."""


def is_loss(error: BaseException) -> bool:
    """Tell whether a worker was lost with its process or its machine, and not by an error that its code raised."""
    return isinstance(error, RayActorError | NodeDiedError) and not getattr(error, "actor_init_failed", False)


def says_lost_node(text: str) -> bool:
    """Tell whether Ray's message about a lost worker says that its machine has died."""
    return "node" in text and "worker process has died" not in text


def gone(nodes: Iterable[Node], address: str | None) -> list[Node]:
    """Return the machines that are dead although the cluster does not know it yet.

    Args:
        nodes: the machines that the cluster takes for alive.
        address: the IP address of the machine that is asked about; None: all are asked.
    """
    return [node for node in nodes if address in (None, node.address) and _refuses(node)]


def _refuses(node: Node) -> bool:
    """Tell whether nothing listens where the machine's Ray did; a machine that does not answer may come back."""
    try:
        socket.create_connection((node.address, node.port), timeout=CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
