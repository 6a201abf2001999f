from __future__ import annotations

import os

import pytest

from tskd_tune.errors import RunError
from tskd_tune.records import files
from tskd_tune.records.files import remove_parts


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(RunError, match=r"could not be read \(No such file or directory\)"):
        files.read_text(tmp_path / "gone.jsonl")


def test_what_a_kill_left_half_is_removed_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    (run / "trials" / "00001" / "checkpoint_000000").mkdir(parents=True)
    mine = [
        run / ".rows.jsonl.abc.part",
        run / "trials" / "00001" / "student-seed1.part",
        run / "trials" / "00001" / "checkpoint_000000" / ".state.part",
    ]
    kept = [run / "rows.jsonl", run / "trials" / "00001" / "particular.txt", tmp_path / "a.part"]
    for path in [*mine, *kept]:
        path.write_text("x")
    folders = {name: tmp_path / name for name in (".run.abc.part", ".other.abc.part", ".old.abc.part")}
    for path in folders.values():
        (path / "trials").mkdir(parents=True)
    os.utime(folders[".old.abc.part"], (0, 0))
    remove_parts(run)
    assert not any(path.exists() for path in mine) and all(path.exists() for path in kept)
    assert [name for name, path in folders.items() if path.exists()] == [".other.abc.part"], "it is being made"
