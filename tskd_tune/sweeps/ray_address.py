"""Tries the cluster that ``RAY_ADDRESS`` names before Ray joins it: Ray would wait long, then end the process."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

from tskd_tune.errors import InputError
from tskd_tune.sweeps import ray_private

VARIABLE = "RAY_ADDRESS"
CONNECT_SECONDS = 5.0
_HOST_AND_PORT = re.compile(r"^(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\d{1,5})$")


@dataclass(frozen=True)
class RayAddress:
    """Where the head of a cluster listens.

    Attributes:
        given: the value of ``RAY_ADDRESS``.
        host: the name or the IP address of the head.
        port: the port of the head's control service.
    """

    given: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def answers(self) -> bool:
        """Tell whether something listens there now."""
        try:
            self.connect()
        except OSError:
            return False
        return True

    def connect(self) -> None:
        """Open a connection and close it.

        Raises:
            OSError: nothing listens there.
        """
        socket.create_connection((self.host, self.port), timeout=CONNECT_SECONDS).close()


def named_cluster() -> RayAddress | None:
    """Return the cluster that ``RAY_ADDRESS`` names, after it answered; None if the sweep starts its own Ray.

    Raises:
        InputError: the variable is malformed, or no Ray cluster answers at the address.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if given in ("", "local"):
        return None
    address = _found() if given == "auto" else _read(given, given)
    try:
        address.connect()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{VARIABLE}={given}: no cluster answers at {address} ({reason}); start the cluster, correct {VARIABLE}, or"
            f" unset {VARIABLE} to run on this machine alone"
        ) from error
    _refuse_others(address)
    return address


def _read(text: str, given: str) -> RayAddress:
    if text.startswith("ray://"):
        raise InputError(
            f"{VARIABLE}={given}: a sweep cannot run through Ray Client (ray://), as it writes its folder where it"
            f" runs; run tskd-tune on a machine of the cluster with {VARIABLE}=auto"
        )
    found = _HOST_AND_PORT.match(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise InputError(
            f"{VARIABLE}={given}: must be HOST:PORT of a cluster's head (such as 10.0.0.1:6379), auto, or local"
        )
    return RayAddress(given, found["v6"] or found["host"], int(found["port"]))


def _found() -> RayAddress:
    """Return the cluster on this machine that Ray itself finds."""
    try:
        address = ray_private.address_found_here()
    except Exception as error:  # Ray raises several, and psutil others
        address, reason = None, f" ({' '.join(str(error).split())[:200]})"
    else:
        reason = ""
    if address is None:
        raise InputError(
            f"{VARIABLE}=auto: no cluster runs on this machine{reason}; start one with `ray start --head`, or unset"
            f" {VARIABLE} to run on this machine alone"
        )
    ray_private.use_token()
    return _read(address, "auto")


def _refuse_others(address: RayAddress) -> None:
    """Refuse an address where no control service of Ray answers, or where Ray asks for another token."""
    try:
        ray_private.connect(str(address))
    except Exception as error:  # several kinds, by version
        text = " ".join(str(error).split())[:200]
        if re.search(r"token|authenticat", text, re.IGNORECASE):
            raise InputError(token_sentence(address, text)) from error
        raise InputError(
            f"{VARIABLE}={address.given}: the program that answers at {address} is not a Ray cluster that can be"
            f" joined ({text}); correct {VARIABLE}, or unset {VARIABLE} to run on this machine alone"
        ) from error


def token_sentence(address: RayAddress | None, text: str) -> str:
    """Say that a cluster asks for another token than this user gives."""
    given = "" if address is None else f"{VARIABLE}={address.given}: "
    return (
        f"{given}the cluster asks for a token that this user does not give ({text}); set RAY_AUTH_MODE=token, and copy"
        " the cluster's token to ~/.ray/auth_token or RAY_AUTH_TOKEN"
    )
