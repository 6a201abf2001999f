"""What a user answers about a cluster, checked, and what the answers put into a template."""

from __future__ import annotations

import ipaddress
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tskd_tune.clusters.templates import clone
from tskd_tune.clusters.versions import package, versions
from tskd_tune.errors import InputError

NAME = re.compile(r"^[a-z][a-z0-9-]{0,39}$")
REGION = re.compile(r"^[a-z]{2}(?:-[a-z]+)+-\d$")
BUCKET = re.compile(r"^s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<path>(?:/[\w.=-]+)*)/?$")
FOLDER = re.compile(r"^/[\w./-]*[\w-]$")
EXPORT = re.compile(r"^[A-Za-z0-9.-]+:/[\w./-]*$")
TYPE = re.compile(r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")
HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*$|^[0-9A-Fa-f:]+$")
USER = re.compile(r"^[a-z_][a-z0-9_-]*$")
MOST_WORKERS = 1000
# A wider range than this is the Internet, or a large part of it.
WIDEST_V4, WIDEST_V6 = 16, 32


@dataclass(frozen=True)
class Answers(ABC):
    """What the file of any cluster needs to know from its user, checked when it is made.

    Attributes:
        name: the cluster's name.
    """

    name: str

    def __post_init__(self) -> None:
        """Check the answers.

        Raises:
            InputError: answers are wrong; the message has a sentence for every mistake.
        """
        _refuse(self._mistakes())

    @abstractmethod
    def _mistakes(self) -> Iterator[str | None]:
        """Yield a sentence for each wrong answer."""


@dataclass(frozen=True)
class AwsAnswers(Answers):
    """What the file of a cluster on AWS needs to know from its user.

    Attributes:
        name: as in `Answers`; the security group and the roles have it too.
        region: the region of AWS, such as us-west-2.
        ssh_from: the range of addresses that may log in by SSH, as CIDR.
        storage: where runs are kept, ``s3://BUCKET/PATH`` or a folder that all machines share.
        export: the NFS export ``SERVER:/PATH`` that is mounted at the folder of ``storage``; None for S3.
        data: ``s3://BUCKET/PATH`` that each machine copies its datasets from; None for none.
        head_type, worker_type: types of machines.
        workers: the largest number of workers.
        spot: whether the workers are spot machines.
    """

    region: str
    ssh_from: str
    storage: str
    export: str | None = None
    data: str | None = None
    head_type: str = "m6i.large"
    worker_type: str = "g6.xlarge"
    workers: int = 8
    spot: bool = True

    def _mistakes(self) -> Iterator[str | None]:
        yield _match(NAME, "--name", self.name, "lower-case letters, digits and hyphens, such as tskd-tune")
        yield _match(REGION, "--region", self.region, "a region of AWS, such as us-west-2")
        yield address_mistake(self.ssh_from)
        yield from _storage(self.storage)
        if self.storage.startswith("/"):
            wanted = "the NFS export that is mounted at the shared folder, SERVER:/PATH"
            yield _match(EXPORT, "--export", self.export or "", wanted)
        elif self.export is not None:
            yield f"--export is {self.export}, but the storage is {self.storage}; leave --export out, or give a folder"
        if self.data is not None:
            yield _match(BUCKET, "--data", self.data, "s3://BUCKET/PATH")
        yield _match(TYPE, "--head-type", self.head_type, "a type of machine, such as m6i.large")
        yield _match(TYPE, "--worker-type", self.worker_type, "a type of machine with a GPU, such as g6.xlarge")
        yield _workers(self.workers)

    @property
    def buckets(self) -> list[str]:
        """The buckets that the cluster's machines use, each once."""
        found = [BUCKET.match(url) for url in (self.storage, self.data or "")]
        return list(dict.fromkeys(match["bucket"] for match in found if match))

    @property
    def flags(self) -> set[str]:
        """The flags of the template's lines."""
        flags = {"clone"} if clone() else set()
        return flags | ({"mount"} if self.export else set()) | ({"data"} if self.data else set())

    def values(self) -> dict[str, str]:
        """Return what the answers put into the template."""
        shared = _shared(self.storage) if self.export else "/home/ubuntu"
        return {
            **versions(),
            **{"CLUSTER-NAME": self.name, "REGION": self.region, "STORAGE": self.storage.rstrip("/")},
            **{"HEAD-TYPE": self.head_type, "WORKER-TYPE": self.worker_type},
            **{"CLONE": str(clone()), "PACKAGE": package("/home/ubuntu", s3=not self.export or bool(self.data))},
            **{"CACHE": f"{shared}/cache", "DATA": f"{shared}/data"},
            **{"FOLDER": shared, "EXPORT": self.export or "", "DATA-URL": self.data or ""},
            "workers": str(self.workers),
            "spot": str(self.workers if self.spot else 0),
            "on_demand": str(0 if self.spot else self.workers),
        }


@dataclass(frozen=True)
class LocalAnswers(Answers):
    """What the file of a cluster of existing machines needs to know from its user.

    Attributes:
        name: the cluster's name.
        head: the address of the head, under which the workers reach it.
        workers: the addresses of the workers.
        user, key: the user of SSH on every machine, and the file with the private key.
        storage: where runs are kept, ``s3://BUCKET/PATH`` or a folder that all machines share.
    """

    head: str
    workers: tuple[str, ...]
    user: str
    key: Path
    storage: str

    def _mistakes(self) -> Iterator[str | None]:
        yield _match(NAME, "--name", self.name, "lower-case letters, digits and hyphens, such as tskd-tune")
        yield _match(HOST, "--head", self.head, "the address of the head")
        yield None if self.workers else "--worker is missing; give --worker ADDRESS for each worker"
        for worker in self.workers:
            yield _match(HOST, "--worker", worker, "the address of a worker")
        if self.head in self.workers or len(set(self.workers)) < len(self.workers):
            yield f"--worker: {', '.join(self.workers)} with the head {self.head} names a machine twice; name each once"
        yield _match(USER, "--ssh-user", self.user, "the user of SSH")
        if not self.key.expanduser().is_file():
            yield f"--ssh-key: {self.key} is no file; give the file with the private key of SSH"
        yield from _storage(self.storage)

    @property
    def flags(self) -> set[str]:
        """The flags of the template's lines."""
        return {"clone"} if clone() else set()

    def values(self) -> dict[str, str]:
        """Return what the answers put into the template."""
        home = "/root" if self.user == "root" else f"/home/{self.user}"
        bucket = self.storage.startswith("s3://")
        shared = home if bucket else _shared(self.storage)
        return {
            **versions(),
            **{"CLUSTER-NAME": self.name, "STORAGE": self.storage.rstrip("/"), "HEAD": self.head},
            **{"WORKERS": ", ".join(self.workers), "USER": self.user, "KEY": str(self.key)},
            **{"CLONE": str(clone()), "PACKAGE": package(home, s3=bucket)},
            **{"CACHE": f"{shared}/cache", "DATA": f"{shared}/data"},
            "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
            "workers": str(len(self.workers)),
        }


def address_mistake(given: str) -> str | None:
    """Say what is wrong with the range of addresses that SSH is opened to; None if nothing is."""
    try:
        network = ipaddress.ip_network(given, strict=False)
    except ValueError:
        return f"--ssh-from is {given!r}; give your address, such as 203.0.113.7/32"
    if network.prefixlen < (WIDEST_V4 if network.version == 4 else WIDEST_V6):
        return f"--ssh-from is {given}, which opens SSH to {network.num_addresses} addresses; give your address alone"
    return None


def whole_range(given: str) -> str:
    """Return a range of addresses as CIDR: a single address gets its full length."""
    return str(ipaddress.ip_network(given, strict=False))


def public_address() -> str | None:
    """Return a public address that this machine itself has; behind a router there is none, and nothing is asked."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            try:
                found = ipaddress.ip_address(address.address)
            except ValueError:  # the address of a network card
                continue
            if found.version == 4 and found.is_global:
                return str(found)
    return None


def _match(pattern: re.Pattern[str], option: str, given: str, wanted: str) -> str | None:
    if pattern.match(given) and ".." not in given:
        return None
    return f"{option} is {given!r}; give {wanted}" if given else f"{option} is missing; give {wanted}"


def _storage(given: str) -> Iterator[str | None]:
    if given.startswith("s3:"):
        yield _match(BUCKET, "--storage", given, "s3://BUCKET/PATH")
    else:
        yield _match(
            FOLDER, "--storage", given, "s3://BUCKET/PATH, or the whole path of a folder that all machines share"
        )


def _shared(storage: str) -> str:
    """Return the shared folder of a storage: ``/mnt/shared/runs`` is in the shared folder ``/mnt/shared``."""
    folder = Path(storage)
    return str(folder.parent if folder.name == "runs" and folder.parent != Path("/") else folder)


def _workers(given: int) -> str | None:
    if 1 <= given <= MOST_WORKERS:
        return None
    return f"--workers is {given}; give a number from 1 to {MOST_WORKERS}"


def _refuse(mistakes: Iterable[str | None]) -> None:
    found = [mistake for mistake in mistakes if mistake]
    if found:
        raise InputError("\n".join(found))
