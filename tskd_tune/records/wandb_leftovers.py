"""What W&B leaves in the folder for temporary files is removed at the end of a command, and nobody else's."""

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

# The folder of a W&B service: the process that started it, its own process, and chance; it holds the service's socket.
SERVICES: Final = "wandb-*-*-*"
SOCKET: Final = "socket"
# Seconds that services whose workers have just ended may take to end too.
PATIENCE: Final = 2.0


@contextmanager
def cleared(patience: float = PATIENCE) -> Iterator[None]:
    """Remove, at the end of the block, the folders of W&B services that began in it and do not answer any more."""
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
    """End the service of this process, if W&B was used in it at all; the next tracker starts another."""
    wandb = sys.modules.get("wandb")
    if wandb is not None:
        wandb.teardown()


def _remove_dead(folders: set[Path]) -> bool:
    """Remove folders without a service; return whether there are others."""
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
        except OSError:  # such as a path that is not ours to read
            return True
    return True
