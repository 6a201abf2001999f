"""A lease on a run: one driver at a time, with a token that is higher than that of every driver before.

Each driver makes the object ``lease/<token>.json``, which only one driver can make. It writes its own object again
while it works. So a driver that was cut off finds the object with the higher token when it comes back, and stops. What
it wrote in between bears its lower token, so readers put it before what the newer driver wrote.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

import psutil

from tskd_tune.errors import InputError, RunError
from tskd_tune.paths import in_shell
from tskd_tune.storage.objects import Objects

FOLDER: Final = "lease"
SECONDS: Final = 60.0
"""Seconds after which a lease that was not renewed ends."""

RENEWAL: Final = 15.0


@dataclass(frozen=True)
class Owner:
    """The process that holds a lease.

    Attributes:
        host: the name of its machine.
        machine: a text that no other machine has since it was switched on, and no other container.
        pid: its number.
        started: when it was started, as seconds since 1970.
    """

    host: str
    machine: str
    pid: int
    started: float

    @classmethod
    def here(cls) -> Owner:
        """Return this process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), psutil.Process().create_time())

    @property
    def is_dead(self) -> bool:
        """Whether it is known not to work on the run, which only its own machine knows.

        A process that asks for a lease works on no run that it took before.
        """
        if self == Owner.here():
            return True
        if self.machine != _machine():
            return False
        try:
            started: float = psutil.Process(self.pid).create_time()
            return abs(started - self.started) > 2
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} of {self.host}"


@dataclass(frozen=True)
class Held:
    """What the storage says of the newest lease.

    Attributes:
        token: the number of the driver, from 1; 0 where no driver ever began.
        owner: the driver; None where the object cannot be read.
        released: whether the driver has ended well.
        age: seconds since the lease was written.
    """

    token: int = 0
    owner: Owner | None = None
    released: bool = True
    age: float = 0.0

    @property
    def is_live(self) -> bool:
        """Whether the driver may still work."""
        return not self.released and self.age < SECONDS and not (self.owner is not None and self.owner.is_dead)


class LostLeaseError(RunError):
    """Another driver has taken the run over."""


class Lease:
    """The right to write a run's records, while it is renewed.

    Attributes:
        token: the number of this driver.
        conditional: whether the storage itself keeps two drivers from taking the same token.
    """

    def __init__(self, objects: Objects, token: int, *, conditional: bool) -> None:
        """Take what `take` has made."""
        self.token = token
        self.conditional = conditional
        self._objects = objects
        self._owner = Owner.here()

    @classmethod
    def take(cls, objects: Objects) -> Lease:
        """Take the lease of a run.

        Raises:
            InputError: another driver works on the run.
            StorageError: the storage refuses or fails.
        """
        now, conditional = objects.probe()
        known = held(objects, now)
        if known.is_live:
            raise InputError(_taken(objects, known))
        lease = cls(objects, known.token + 1, conditional=conditional)
        if not objects.create(_name(lease.token), lease._content()):
            raise InputError(_taken(objects, held(objects, now)))
        for older in _tokens(objects):
            if older < known.token:
                objects.delete(_name(older))
        return lease

    def renew(self) -> None:
        """Say that the driver still works.

        Raises:
            LostLeaseError: another driver has taken the run over.
            StorageError: the storage refuses or fails.
        """
        self.check()
        self._objects.write(_name(self.token), self._content())

    def check(self) -> None:
        """Look for a newer driver.

        Raises:
            LostLeaseError: there is one.
            StorageError: the storage refuses or fails.
        """
        newest = max(_tokens(self._objects), default=0)
        if newest > self.token:
            owner = _owner(self._objects.read(_name(newest)))[0]
            raise LostLeaseError(
                f"{self._objects.address}: {owner or 'another process'} has taken this run over, because this process"
                f" ({self._owner}) did not reach the storage for {SECONDS:g} s; this process stops here, and replaces"
                " nothing that the other one has written; see the run with `tskd-tune status"
                f" {self._objects.address}`"
            )

    def release(self) -> None:
        """End the lease, so that the next driver need not wait.

        Raises:
            StorageError: the storage refuses or fails.
        """
        self._objects.write(_name(self.token), self._content(released=True))

    def _content(self, *, released: bool = False) -> bytes:
        facts = {**vars(self._owner), "released": released, "nonce": uuid4().hex}
        return json.dumps(facts).encode()


def held(objects: Objects, now: datetime) -> Held:
    """Return what the storage says of the newest lease; ``now`` is the time by the storage's clock.

    Raises:
        StorageError: the storage refuses or fails.
    """
    entries = objects.names(FOLDER)
    token = max(map(_token, entries), default=0)
    if not token:
        return Held()
    owner, released = _owner(objects.read(_name(token)))
    written = entries[_name(token)].modified
    age = 0.0 if written is None else max(0.0, (now - written).total_seconds())
    return Held(token, owner, released, age)


def _tokens(objects: Objects) -> list[int]:
    return sorted(map(_token, objects.names(FOLDER)))


def _token(name: str) -> int:
    text = name.rpartition("/")[2].removesuffix(".json")
    return int(text) if text.isdecimal() else 0


def _name(token: int) -> str:
    return f"{FOLDER}/{token:08d}.json"


def _owner(content: bytes | None) -> tuple[Owner | None, bool]:
    """Return who holds a lease, and whether it was released; a damaged lease counts as held."""
    with suppress(ValueError, KeyError, TypeError):
        facts = json.loads(content or b"")
        owner = Owner(str(facts["host"]), str(facts["machine"]), int(facts["pid"]), float(facts["started"]))
        return owner, bool(facts["released"])
    return None, False


def _taken(objects: Objects, known: Held) -> str:
    return (
        f"{objects.address}: {known.owner or 'another process'} trains this run; it wrote to the storage"
        f" {known.age:.0f} s ago. Wait until it ends (`tskd-tune status {in_shell(objects.address)}` shows its"
        f" progress), or end it; {SECONDS:g} s after its last sign of life another process may go on"
    )


def _machine() -> str:
    """Return what tells this machine, since it was switched on, and this container from others."""
    parts = [socket.gethostname()]
    for read in (_boot, _container):
        with suppress(OSError):
            parts.append(read())
    return "/".join(parts)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _container() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
