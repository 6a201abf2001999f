"""Which file is which training's: by identity and seed, or in the folder of its trial as under format 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factories import a_row
from tskd_tune.errors import InputError
from tskd_tune.records.entries.state import FORMAT, Begun
from tskd_tune.records.runs.run_folder import RunFolder

ONE = "0123456789ab"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "first", "sweep", {}, expected=2)


def files(folder: RunFolder) -> list[str]:
    return sorted(path.relative_to(folder.path).as_posix() for path in folder.path.glob("tr*/*/*"))


def leave(folder: RunFolder, run: str, seed: int) -> None:
    folder.append_history(run, [{"seed": seed, "epoch": 0, "loss": 1.0}])
    folder.keep_error(a_row(run=run, seed=seed), "boom")
    for path in (folder.student_path(run, seed), folder.checkpoint_path(run, seed)):
        path.write_bytes(b"")


def test_files_are_named_by_identity_and_seed(folder: RunFolder) -> None:
    folder.begin(Begun(run="00000", identity=ONE, arm="a", seeds=[1, 2]))
    leave(folder, "00000", 2)
    own = f"trainings/{ONE}-seed2"
    names = ["checkpoint.pt", "error.txt", "history.jsonl", "student.pth"]
    assert files(folder) == [*(f"{own}/{name}" for name in names), "trials/00000/trial.json"]
    assert folder.trials() == ["00000"]
    again = RunFolder.open(folder.path)
    again.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 2.0}])
    assert [(line.seed, line.number("loss")) for line in again.history("00000")] == [(1, 2.0), (2, 1.0)]
    assert folder.error_path("00000", 2).read_text() == "boom\n"


def test_a_trial_that_began_under_format_1_keeps_its_files_in_its_folder(folder: RunFolder) -> None:
    old = Begun(run="00000", arm="a", seeds=[1]).plain() | {"format": 1, "started": "2026-01-01T00:00:00+00:00"}
    del old["identity"]
    path = folder.trial_path("00000") / "trial.json"
    path.parent.mkdir()
    path.write_text(json.dumps(old))
    leave(folder, "00000", 1)
    folder.begin(Begun(run="00000", identity=ONE, arm="a", seeds=[1]))
    folder.append_history("00000", [{"seed": 1, "epoch": 1, "loss": 0.5}])
    own = "trials/00000"
    assert files(folder) == [
        f"{own}/checkpoint.pt", f"{own}/error-seed1.txt", f"{own}/history.jsonl", f"{own}/student-seed1.pth",
        f"{own}/trial.json",
    ]  # fmt: skip
    assert [line.epoch for line in folder.history("00000")] == [0, 1]
    assert folder.begun()["00000"].started == "2026-01-01T00:00:00+00:00"


def test_a_trial_whose_file_was_lost_keeps_the_history_of_its_folder(folder: RunFolder) -> None:
    folder.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 1.0}])
    folder.begin(Begun(run="00000", identity=ONE, arm="a", seeds=[1]))
    folder.append_history("00000", [{"seed": 1, "epoch": 1, "loss": 0.5}])
    assert [line.epoch for line in folder.history("00000")] == [0, 1]


def test_a_damaged_history_of_two_arms_with_one_experiment_is_said_once(folder: RunFolder) -> None:
    for run, arm in (("00000", "a"), ("00001", "b")):
        folder.begin(Begun(run=run, identity=ONE, arm=arm, seeds=[1]))
    folder.append_history("00000", [{"seed": 1, "epoch": 0, "loss": 1.0}])
    folder.history_path("00001", 1).open("ab").write(b"odd\n")
    (sentence,) = folder.damage()
    assert "history.jsonl:2" in sentence and len(folder.history("00001")) == 1


def test_the_last_row_of_a_training_counts(folder: RunFolder) -> None:
    for row in (
        a_row(run="00000", seed=1, arm="a", epochs=1),
        a_row(run="00000", seed=1, arm="a", epochs=2, identity=ONE),
        a_row(run="00001", seed=1, arm="twin", epochs=3, identity=ONE),
        a_row(run="00002", seed=1, arm="a", epochs=4, identity=ONE),
        a_row(run="00000", seed=2, arm="a", epochs=5, identity=ONE),
    ):
        folder.add_row(row)
    assert [(row.arm, row.seed, row.epochs) for row in folder.rows()] == [("a", 1, 4), ("twin", 1, 3), ("a", 2, 5)]


@pytest.mark.parametrize("form", range(1, FORMAT + 1))
def test_folders_of_all_formats_open(folder: RunFolder, form: int) -> None:
    (folder.path / "state.json").write_text(json.dumps(folder.state.plain() | {"format": form}))
    assert RunFolder.open(folder.path).state.by_identity == (form > 1)


def test_a_later_format_is_refused(folder: RunFolder) -> None:
    (folder.path / "state.json").write_text(json.dumps(folder.state.plain() | {"format": 4}))
    with pytest.raises(InputError, match="the run has format 4, this version reads formats up to 3"):
        RunFolder.open(folder.path)
