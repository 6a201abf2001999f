"""Removes W&B's temporary files of a command at the end of the command, but not those of other commands."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

# The folder of a W&B service, with the service's socket: two process ids (starter, service) and random text.
SERVICES: Final = "wandb-*-*-*"
SOCKET: Final = "socket"
# Seconds that services may take to end after their workers have ended.
PATIENCE: Final = 2.0


@contextmanager
def cleared(patience: float = PATIENCE) -> Iterator[None]:
    """Remove, at the end of the block, folders of W&B services that began in the block and no longer answer."""
    folder = Path(tempfile.gettempdir())
    before = set(folder.glob(SERVICES))
    try:
        yield
    finally:
        _end_own_service()
        until = time.monotonic() + patience
        while _remove_dead(set(folder.glob(SERVICES)) - before) and time.monotonic() < until:
            time.sleep(0.1)


def _end_own_service() -> None:
    """End the W&B service of this process, if there is one; the next tracker starts a new service."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.teardown()


def _remove_dead(folders: set[Path]) -> bool:
    """Remove folders without a running service; return whether folders with a running service remain."""
    alive = [folder for folder in folders if _answers(folder / SOCKET)]
    for folder in folders - set(alive):
        shutil.rmtree(folder, ignore_errors=True)
    return bool(alive)


def _answers(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # such as a path without permission to read
            return True
    return True
