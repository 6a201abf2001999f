"""The folders that W&B's services leave behind are removed; those that are in use, or were there before, are not."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tskd_tune.records.wandb.leftovers import cleared


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path is short
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def a_service(folder: Path, name: str) -> socket.socket:
    (folder / name).mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / name / "socket"))
    server.listen()
    return server


@pytest.mark.parametrize("failure", [None, RuntimeError, KeyboardInterrupt])
def test_what_is_dead_and_new_goes(temporary: Path, failure: type[BaseException] | None):
    a_service(temporary, "wandb-1-2-3").close()
    (temporary / "wandb-notes").mkdir()
    with closing(a_service(temporary, "wandb-7-8-9")):
        try:
            with cleared(patience=0.2):
                a_service(temporary, "wandb-4-5-6").close()
                (temporary / "wandb-4-5-7").mkdir()
                living = a_service(temporary, "wandb-10-11-12")
                if failure is not None:
                    raise failure
        except (RuntimeError, KeyboardInterrupt):
            assert failure is not None
        living.close()
    left = sorted(path.name for path in temporary.iterdir())
    assert left == ["wandb-1-2-3", "wandb-10-11-12", "wandb-7-8-9", "wandb-notes"]
