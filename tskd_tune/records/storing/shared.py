"""A lease on a run in a folder of a network file system, whose locks may not reach other machines.

The lock of a run's folder keeps other processes of the same machine away. Over NFS, a lock may be forgotten when a
machine is cut off, or may not be sent to the server at all. There a driver also holds a lease in the folder
(`tskd_tune.storage.lease`): a file that only one process can make, and the server's own times.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from tskd_tune.errors import RunError
from tskd_tune.paths import Address
from tskd_tune.storage import lease as leases
from tskd_tune.storage.failures import StorageError
from tskd_tune.storage.lease import Lease, LostLeaseError
from tskd_tune.storage.objects import Objects

NETWORK: Final = {
    "nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "gpfs", "lustre", "fuse.sshfs",
    "fuse.glusterfs", "fuse.ceph", "fuse.juicefs", "fuse.s3fs", "fuse.gcsfuse", "fuse.mount-s3",
}  # fmt: skip


def is_network(folder: Path) -> bool:
    """Tell whether a folder is on a file system that other machines may use too, by its type."""
    path = folder.resolve()
    found = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return bool(found) and max(found, key=lambda part: len(part.mountpoint)).fstype in NETWORK


@contextmanager
def leased(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a lease in a folder until the end of the block, if the folder is on a network file system.

    Yields:
        A function that raises a `LostLeaseError` if another machine has taken the run over.

    Raises:
        InputError: a process of another machine trains the run.
        StorageError: the folder cannot be read or written.
    """
    if not is_network(folder):
        yield lambda: None
        return
    from fsspec.implementations.local import LocalFileSystem

    lease = Lease.take(Objects(Address(str(folder)), LocalFileSystem(auto_mkdir=True)))
    lost: list[RunError] = []
    over = threading.Event()

    def renew() -> None:
        while not over.wait(leases.RENEWAL):
            try:
                lease.renew()
            except LostLeaseError as error:
                lost.append(error)
                return
            except StorageError:
                continue  # the next write of a record says what is wrong with the folder

    def check() -> None:
        if lost:
            raise lost[0]

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        over.set()
        thread.join(leases.SECONDS)
        if not lost:
            with suppress(RunError):  # a later driver then waits for a minute
                lease.release()
