"""A file system of fsspec that fails when a test says so."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem

CALLS = ("cat_file", "pipe_file", "get_file", "put_file", "find", "ls", "rm_file", "rm")

THROTTLED = OSError(errno.EBUSY, "Please reduce your request rate.")
AWAY = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
DENIED = PermissionError("Access Denied")


class Faulty:
    """Storage in memory that counts its calls, and raises what `fails` returns for a call and a path."""

    def __init__(self) -> None:
        self.system = MemoryFileSystem(skip_instance_cache=True)
        self.calls: Counter[str] = Counter()
        self.fails: Callable[[str, str], Exception | None] = lambda call, path: None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.system, name)
        if name not in CALLS:
            return found

        def call(path: str, *arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            error = self.fails(name, str(arguments[0]) if name == "put_file" else path)
            if error is not None:
                raise error
            return found(path, *arguments, **options)

        return call
