"""The machines of the Ray cluster that a sweep runs on: which there are, what they have, and which may be added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from tskd_tune.sweeps.on_ray import ray_private

Amounts = Mapping[str, float]
"""Resource -> its amount, with Ray's names for the resources of a machine: ``CPU``, ``GPU``."""


@dataclass(frozen=True)
class Node:
    """One machine of the cluster.

    Attributes:
        id: Ray's id of the machine.
        host: the machine's host name.
        address: the machine's IP address, as Ray reaches it.
        amounts: the resources that the machine has in all.
        port: where the machine's Ray listens.
    """

    id: str
    host: str
    address: str
    amounts: Amounts
    port: int = 0

    def __str__(self) -> str:
        """Return how messages name the machine."""
        return f"node {self.host} ({self.address})"


@dataclass(frozen=True)
class Kind:
    """A kind of machine that an autoscaler may add.

    Attributes:
        amounts: the resources of one such machine.
        most: the largest number of such machines.
    """

    amounts: Amounts
    most: int = 1


def alive() -> list[Node]:
    """Return the machines of the cluster that are alive, in Ray's order."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(
            *(
                one[key]
                for key in ("NodeID", "NodeManagerHostname", "NodeManagerAddress", "Resources", "NodeManagerPort")
            )
        )
        for one in found
        if one["Alive"]
    ]


def planned() -> list[Kind]:
    """Return the kinds of machines that the cluster's autoscaler may add; none without an autoscaler."""
    return [Kind(amounts, most) for amounts, most in ray_private.machines_to_add()]


def places(wanted: Amounts, there: Amounts) -> int:
    """Return how many trials a machine holds.

    Args:
        wanted: what a trial takes, with the keys of ``resources``: ``cpu``, ``gpu``.
        there: what the machine has.
    """
    return min(int(there.get(name.upper(), 0) / amount + 1e-9) for name, amount in wanted.items())


def fits(wanted: Amounts, machines: Sequence[Amounts]) -> bool:
    """Tell whether a machine has what a trial takes."""
    return any(all(there.get(name.upper(), 0) >= amount for name, amount in wanted.items()) for there in machines)


def in_words(machines: Sequence[Node]) -> str:
    """Return ``3 nodes, 24 CPUs, 4 GPUs``."""
    counts = [(len(machines), "node")]
    counts += [(int(sum(one.amounts.get(name, 0) for one in machines)), name) for name in ("CPU", "GPU")]
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for count, name in counts)
