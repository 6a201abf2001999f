from __future__ import annotations

import os
from pathlib import Path

import pytest

from tskd_tune.errors import InputError, RunError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing import files
from tskd_tune.records.storing.files import refuse_links, remove_parts


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


def test_the_link_of_wandb_to_the_log_of_its_service_is_no_danger(tmp_path: Path) -> None:
    logs = tmp_path / "run" / "wandb" / "offline-run-20261127_114030-first" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "core-debug.log")
    refuse_links(tmp_path / "run")
    (logs / "debug.log").symlink_to(tmp_path / "profile")
    with pytest.raises(InputError, match=r"debug\.log: is a link to .*profile"):
        refuse_links(tmp_path / "run")


def test_what_dies_within_a_sitting_leaves_nothing_at_its_end(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "run", "sweep", {}, expected=1)
    part = folder.path / "trainings" / "abc-seed1" / ".checkpoint.pt.abc.part"
    part.parent.mkdir(parents=True)
    with folder.alone():
        part.write_text("half of a checkpoint")
    assert not part.exists()
