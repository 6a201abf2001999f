from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tskd_tune.errors import InputError
from tskd_tune.tasks.folders import data_folder, require_writable


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_DATA", "~/sets")
    assert data_folder() == Path.home() / "sets"


def test_without_the_variable_it_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TSKD_TUNE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = data_folder()
    assert folder.name == "data"
    assert "tskd-tune" in folder.parts


def test_a_missing_platformdirs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TSKD_TUNE_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(InputError, match=r"platformdirs, which is not installed.*set TSKD_TUNE_DATA"):
        data_folder()


def test_a_folder_that_can_be_made_is_not_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written \(because of .*file\)"):
        require_writable(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        require_writable(tmp_path / "data")
