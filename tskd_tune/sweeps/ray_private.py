"""All private parts of Ray that this package uses; a new version of Ray may change them.

Nothing else in the package may import a private module of Ray. `NAMES` lists what is used and why;
``tests/sweeps/test_ray_private.py`` fails with a sentence for each name that another version of Ray lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from subprocess import Popen

NAMES: Final[Mapping[str, str]] = {
    "ray._private.services:canonicalize_bootstrap_address": "finds the cluster on this machine for RAY_ADDRESS=auto",
    "ray._raylet:GcsClient": "tells whether a Ray cluster answers at an address",
    "ray._private.state:state.get_cluster_config": "asks an autoscaler which machines it may add",
    "ray._private.worker:_global_node": "names Ray's own processes, which are watched while a sweep runs",
    "ray._private.node:Node.raylet_socket_name": "finds the process through which a cluster was joined",
    "ray._private.worker:print_to_stdstream": "keeps the output of dead workers off the terminal",
    "ray.tune.execution.experiment_state:logger": "shortens Tune's message about a state that cannot be saved",
}
"""``module:attribute`` -> what it is used for."""

MAY_BE_ABSENT: Final[Mapping[str, str]] = {
    "ray._private.authentication.authentication_token_setup:maybe_enable_token_auth_if_token_available": (
        "gives the token of this user to a cluster that was found here; Ray 2.52 has no such function"
    ),
}
"""Like `NAMES`, but some versions of Ray do not have these names."""

STATE_LOGGER: Final = "ray.tune.execution.experiment_state"
"""The logger of Tune that reports a state that cannot be saved."""


def address_found_here() -> str | None:
    """Return the address of the cluster that Ray finds on this machine; None where there is none.

    Raises:
        Exception: Ray and psutil raise several kinds.
    """
    from ray._private import services

    found: str | None = services.canonicalize_bootstrap_address("auto")
    return found


def use_token() -> None:
    """Give the token of this user to a cluster that was found here, as Ray's own commands do."""
    with suppress(ImportError, AttributeError):
        from ray._private.authentication import authentication_token_setup as tokens

        tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def connect(address: str) -> None:
    """Connect to the control service of a cluster.

    Raises:
        Exception: several kinds, by version: no Ray answers there, or Ray asks for another token.
    """
    from ray import _raylet

    _raylet.GcsClient(address=address)  # type: ignore[attr-defined]


def machines_to_add() -> list[dict[str, float]]:
    """Return the resources of each kind of machine that an autoscaler may add; none without an autoscaler."""
    from ray._private.state import state

    config = state.get_cluster_config()
    return [] if config is None else [dict(kind.resources) for kind in config.node_group_configs]


def own_processes() -> dict[str, list[Popen[bytes]]]:
    """Return the processes of the Ray that this process started, by their kind; none if it started no Ray."""
    from ray._private import worker

    node: Any = worker._global_node
    started = {} if node is None else node.all_processes
    return {kind: [info.process for info in found] for kind, found in started.items()}


def raylet_socket() -> str:
    """Return the name of the socket through which a cluster was joined; empty if none was joined."""
    from ray._private import worker

    node = worker._global_node
    return "" if node is None else str(node.raylet_socket_name)


def hear_worker_output(hear: Callable[..., None]) -> None:
    """Call ``hear`` with the output of workers, which Ray would otherwise print."""
    from ray._private import worker

    worker.print_to_stdstream = hear
