"""A file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from tskd_tune import files
from tskd_tune.errors import RunError
from tskd_tune.files import fullest, is_full


def test_a_file_is_replaced_whole_and_leaves_no_part_behind(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.write_whole(path, b"old")
    files.write_whole(path, "new é\n")
    assert path.read_text() == "new é\n"
    assert [item.name for item in tmp_path.iterdir()] == ["rows.jsonl"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("raised", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_keeps_the_old_file_alone(tmp_path, monkeypatch, raised):
    path = tmp_path / "rows.jsonl"
    files.write_whole(path, "old")

    def stop(handle):
        raise raised

    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises((RunError, KeyboardInterrupt)) as caught:
        files.write_whole(path, "new")
    if caught.type is RunError:
        assert "rows.jsonl: could not be written (No space left on device); free" in str(caught.value)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_vanished_folder_is_a_sentence(tmp_path):
    with pytest.raises(RunError, match=r"could not be written \(No such file or directory\); put the run's folder"):
        files.write_whole(tmp_path / "gone" / "rows.jsonl", "")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), True),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), True),
        (RunError("arm a, seed 1: RunError: /x/state.pt: could not be written (No space left on device)"), True),
        (RuntimeError("ray.exceptions.OutOfDiskError: Local disk is full"), True),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), False),
        (RunError("the loss is not finite"), False),
    ],
)
def test_a_full_disk_is_known_whoever_met_it(error: Exception, full: bool):
    assert is_full(error) == full
    try:
        try:
            raise error
        except Exception as cause:
            raise RunError("the sweep broke off") from cause
    except RunError as outer:
        assert is_full(outer) == full


def test_the_fullest_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = tmp_path / "small"
    small.mkdir()
    free = {small: 5}
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free.get(Path(path), 100)))
    assert fullest([tmp_path / "runs", small / "not" / "there", Path("/")]) == small / "not" / "there"
