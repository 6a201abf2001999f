"""The last sentence of a command that a full disk ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from factories import a_search
from tskd_tune.cli.reading import looking
from tskd_tune.cli.training import running
from tskd_tune.errors import RunError, UnwritableError


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (RunError("arm a, seed 1: could not be written (No space left on device)"), "arm a, seed 1"),
        (
            RunError("the sweep broke off (Traceback (most recent call last): ... No space left on device)"),
            "{path}: the",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "{path}: the"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
def test_it_names_the_disk_and_how_to_go_on(tmp_path: Path, error: Exception, first: str, begun: bool):
    path = tmp_path / "first"
    path.mkdir()
    if begun:
        (path / "state.json").write_text("{}")
    with pytest.raises(RunError) as caught, running._said_of_a_full_disk(path):
        raise error
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(first.format(path=path))
    assert lines[-1].startswith("the disk of ")
    assert lines[-1].endswith(
        f"free space there, then: {f'tskd-tune resume {path}' if begun else 'the same command again'}"
    )


def test_another_failure_is_left_as_it_is(tmp_path: Path):
    with pytest.raises(RunError, match="^the loss is not finite$"), running._said_of_a_full_disk(tmp_path):
        raise RunError("the loss is not finite")


def test_a_report_is_shown_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the run of another user, or on a disk that is read-only."""
    folder = a_search(tmp_path, [60.0, 70.0])

    def refused(path: Path, content: object) -> None:
        try:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        except OSError as error:
            raise UnwritableError(f"{path}: could not be written") from error

    monkeypatch.setattr(type(folder.store), "write", lambda self, name, content: refused(name, content))
    with pytest.raises(RunError, match=r"report.md were not written \(Read-only file system\), but the results above"):
        looking.report(str(folder.path), tmp_path)
    assert "2 arms, 2 seeds (1, 2)" in capsys.readouterr().out
