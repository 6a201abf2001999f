"""Tries the cluster that ``--address`` or ``RAY_ADDRESS`` names before Ray joins it.

Ray itself would wait long, and then end the process.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tskd_tune.errors import InputError
from tskd_tune.sweeps.on_ray import ray_private

VARIABLE = "RAY_ADDRESS"
OPTION = "--address"
CONNECT_SECONDS = 5.0
_by_option: ContextVar[bool] = ContextVar("_by_option", default=False)
_HOST_AND_PORT = re.compile(r"^(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\d{1,5})$")


@dataclass(frozen=True)
class RayAddress:
    """Where the head of a cluster listens.

    Attributes:
        given: the value of ``--address`` or ``RAY_ADDRESS``.
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


@contextmanager
def addressed(address: str | None) -> Iterator[None]:
    """Join the cluster at ``address`` within the block, whatever ``RAY_ADDRESS`` says; None: as the variable says.

    The variable holds the address within the block, because Ray reads the variable too.
    """
    if address is None:
        yield
        return
    before, token = os.environ.get(VARIABLE), _by_option.set(True)
    os.environ[VARIABLE] = address
    try:
        yield
    finally:
        _by_option.reset(token)
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


def is_named() -> bool:
    """Tell whether the user named a cluster; otherwise a sweep starts a Ray of its own."""
    return os.environ.get(VARIABLE, "").strip() not in ("", "local")


def said(given: str) -> str:
    """Return the address as the user gave it, ``RAY_ADDRESS=...`` or ``--address ...``."""
    return f"{OPTION} {given}" if _by_option.get() else f"{VARIABLE}={given}"


def remedy() -> str:
    """Say how to name another cluster, or none."""
    if _by_option.get():
        return f"correct {OPTION}, or give {OPTION} local to run on this machine alone"
    return f"correct {VARIABLE}, or unset {VARIABLE} to run on this machine alone"


def named_cluster() -> RayAddress | None:
    """Return the cluster that the user named, after it answered; None if the sweep starts its own Ray.

    Raises:
        InputError: the address is malformed, or no Ray cluster answers at the address.
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
            f"{said(given)}: no cluster answers at {address} ({reason}); start the cluster, {remedy()}"
        ) from error
    _refuse_others(address)
    return address


def _read(text: str, given: str) -> RayAddress:
    if text.startswith(("http://", "https://")):
        raise InputError(
            f"{said(given)}: is the address of a dashboard; send the sweep there with `tskd-tune submit {given} sweep"
            " FILE`, or give HOST:PORT of the cluster's head, such as 10.0.0.1:6379"
        )
    if text.startswith("ray://"):
        raise InputError(
            f"{said(given)}: a sweep cannot run through Ray Client (ray://), as it writes its folder where it"
            f" runs; run tskd-tune on a machine of the cluster with {OPTION} auto, or send the sweep there with"
            " `tskd-tune submit`"
        )
    found = _HOST_AND_PORT.match(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise InputError(
            f"{said(given)}: must be HOST:PORT of a cluster's head (such as 10.0.0.1:6379), auto, or local"
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
            f"{said('auto')}: no cluster runs on this machine{reason}; start one with `ray start --head`, {remedy()}"
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
            f"{said(address.given)}: the program that answers at {address} is not a Ray cluster that can be joined"
            f" ({text}); {remedy()}"
        ) from error


def token_sentence(address: RayAddress | None, text: str) -> str:
    """Say that a cluster asks for another token than this user gives."""
    given = "" if address is None else f"{said(address.given)}: "
    return (
        f"{given}the cluster asks for a token that this user does not give ({text}); set RAY_AUTH_MODE=token, and copy"
        " the cluster's token to ~/.ray/auth_token or RAY_AUTH_TOKEN"
    )
