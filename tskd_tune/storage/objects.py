"""Objects by name under an address: whole or absent, with sentences for errors, and counted."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast
from uuid import uuid4

from tskd_tune.errors import InputError
from tskd_tune.files import disk_error
from tskd_tune.paths import Address
from tskd_tune.storage.failures import StorageError, lacks_bucket, understood

T = TypeVar("T")

# Storage where an object appears whole at the end of an upload; elsewhere a file is uploaded, then renamed.
WHOLE_AT_ONCE: Final = {
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory", "r2", "b2", "cos", "obs", "tos",
}  # fmt: skip
# Storage that can refuse to replace an object; `Objects.probe` tries whether a server really does.
CREATES_ONCE: Final = {"s3", "s3a", "gs", "gcs", "memory"}
_TIMES: Final = ("LastModified", "last_modified", "modified", "mtime", "updated", "created")


class FileSystem(Protocol):
    """What is used of a file system of fsspec."""

    def cat_file(self, path: str) -> bytes:
        """Return the content of a file."""

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite") -> object:
        """Write a file; ``create`` refuses to replace one."""

    def get_file(self, rpath: str, lpath: str) -> object:
        """Copy a file to this machine."""

    def put_file(self, lpath: str, rpath: str) -> object:
        """Copy a file from this machine."""

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        """Return the files below a folder with their facts."""

    def ls(self, path: str, *, detail: bool) -> list[dict[str, object]]:
        """Return what is directly in a folder."""

    def mv(self, path1: str, path2: str) -> object:
        """Rename a file."""

    def makedirs(self, path: str, exist_ok: bool = False) -> object:
        """Make a folder."""

    def rm_file(self, path: str) -> object:
        """Remove a file."""

    def rm(self, path: str, recursive: bool = False) -> object:
        """Remove a folder."""

    def invalidate_cache(self) -> object:
        """Forget lists of names."""


@dataclass(frozen=True)
class Entry:
    """What a list of names says of an object: its size in bytes, and when the storage says that it was written."""

    size: int
    modified: datetime | None


@dataclass
class Traffic:
    """What was asked of the storage: requests by kind, and bytes sent and received.

    A kind is one call of fsspec, which is one request, but for a list of more than 1,000 names and for a large file.
    """

    requests: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0


class Objects:
    """The objects under an address; every failure is a `StorageError`."""

    def __init__(self, address: Address, system: FileSystem | None = None) -> None:
        """Reach the storage of an address.

        Raises:
            InputError: no package knows this kind of address, or the package is not installed.
        """
        self.address = address
        self.traffic = Traffic()
        self._system, self._root = (system, address.url) if system else _opened(address)
        self._counting = threading.Lock()

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None if there is none."""
        with self._asked("read", name, "GET"):
            try:
                content = self._system.cat_file(self._path(name))
            except FileNotFoundError as error:
                _absent(error)
                return None
            self._count(received=len(content))
            return content

    def fetch(self, name: str, file: Path) -> bool:
        """Copy an object to a file, completely or not at all; False if there is no object.

        Raises:
            RunError: the file cannot be written.
        """
        part = file.with_name(f".{file.name}.{uuid4().hex}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error("written", file, error) from error
        try:
            with self._asked("read", name, "GET"):
                try:
                    self._system.get_file(self._path(name), str(part))
                except FileNotFoundError as error:
                    _absent(error)
                    return False
            self._count(received=part.stat().st_size)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
        return True

    def write(self, name: str, data: bytes | Path) -> None:
        """Replace an object, completely or not at all; a path is a file whose content is copied."""
        with self._asked("written", name, "PUT"):
            if self.address.scheme in WHOLE_AT_ONCE:
                self._put(self._path(name), data)
            else:
                part = self._path(f"{name}.{uuid4().hex}.part")
                self._system.makedirs(part.rpartition("/")[0], exist_ok=True)
                self._put(part, data)
                self._system.mv(part, self._path(name))
            self._count(sent=data.stat().st_size if isinstance(data, Path) else len(data))

    def create(self, name: str, data: bytes) -> bool:
        """Make an object; False if there is one of this name, which stays."""
        with self._asked("written", name, "PUT"):
            path = self._path(name)
            if self.address.scheme not in WHOLE_AT_ONCE:
                self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                self._system.pipe_file(path, data, mode="create")
            except FileExistsError:
                # A request whose answer was lost is sent again, and then finds its own object.
                return self._system.cat_file(path) == data
            self._count(sent=len(data))
            return True

    def names(self, folder: str) -> dict[str, Entry]:
        """Return the objects under a folder, however deep, by their whole names."""
        with self._asked("read", folder, "LIST"):
            self._system.invalidate_cache()
            try:
                found = self._system.find(self._path(folder), detail=True)
            except FileNotFoundError as error:
                _absent(error)
                return {}
        start = len(self._stripped("")) + 1
        return {
            path[start:]: Entry(int(cast("int", facts.get("size") or 0)), _time(facts)) for path, facts in found.items()
        }

    def folders(self) -> list[str]:
        """Return the names of the folders directly under the address, sorted."""
        with self._asked("read", "", "LIST"):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=True)
            except FileNotFoundError as error:
                _absent(error)
                return []
        return sorted(str(one["name"]).rstrip("/").rpartition("/")[2] for one in found if one["type"] == "directory")

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        with self._asked("removed", name, "DELETE"), suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def remove_all(self) -> None:
        """Remove every object under the address."""
        with self._asked("removed", "", "DELETE"), suppress(FileNotFoundError):
            self._system.invalidate_cache()
            self._system.rm(self._root, recursive=True)

    def probe(self) -> tuple[datetime, bool]:
        """Write an object, read it, try to make it again, and remove it.

        Returns:
            The time by the storage's own clock, and whether it refuses to make an object twice.
        """
        name, content = f".probe-{uuid4().hex}", os.urandom(16)
        self.create(name, content)
        try:
            refuses = not self.create(name, content[::-1] + content) and self.address.scheme in CREATES_ONCE
            if self.read(name) != content:
                raise StorageError(self.place(name), "read", "other", "it does not return what was written")
            now = next((entry.modified for path, entry in self.names(name).items() if path == name), None)
        finally:
            self.delete(name)
        return now or datetime.now(UTC), refuses

    def place(self, name: str) -> str:
        """Return how messages call an object."""
        return f"{self.address}/{name}".rstrip("/")

    def _put(self, path: str, data: bytes | Path) -> None:
        if isinstance(data, Path):
            self._system.put_file(str(data), path)
        else:
            self._system.pipe_file(path, data)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _stripped(self, name: str) -> str:
        """Return a path as lists of names have it."""
        strip: Callable[[str], str] = getattr(self._system, "_strip_protocol", str)
        return strip(self._path(name))

    def _count(self, *, sent: int = 0, received: int = 0) -> None:
        with self._counting:
            self.traffic.sent += sent
            self.traffic.received += received

    @contextmanager
    def _asked(self, action: str, name: str, kind: str) -> Iterator[None]:
        with self._counting:
            self.traffic.requests[kind] += 1
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # fsspec's file systems raise any kind
            raise understood(error, self.place(name), action) from error


def _absent(error: FileNotFoundError) -> None:
    """Tell a missing object, which is no error, from a missing bucket."""
    if lacks_bucket(error):
        raise error


def _time(facts: dict[str, object]) -> datetime | None:
    for name in _TIMES:
        value = facts.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            with suppress(ValueError):
                found = datetime.fromisoformat(value)
                return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _opened(address: Address) -> tuple[FileSystem, str]:
    import fsspec  # takes time to import; runs in folders do not need it

    try:
        system, root = fsspec.core.url_to_fs(address.url, use_listings_cache=False)
    except ImportError as error:
        raise InputError(_lacks(address, str(error))) from error
    except ValueError as error:
        known = "s3, gs, abfs, sftp, hdfs and all that fsspec knows"
        raise InputError(
            f"{address}: storage of this kind is not known ({error}); give an address of {known}"
        ) from error
    except Exception as error:  # a file system may connect when it is made
        raise understood(error, str(address), "reached") from error
    return system, root


def _lacks(address: Address, said: str) -> str:
    """Say which package is missing."""
    ours = {"s3": "s3", "s3a": "s3"}.get(address.scheme)
    remedy = f"pip install 'tskd-tune[{ours}]'" if ours else said
    package = "s3fs" if ours else f"that fsspec needs for {address.scheme}://"
    return f"{address}: the package {package} is missing on this machine; install it: {remedy}"
