from __future__ import annotations

import fcntl
import json
import multiprocessing
import stat
import warnings

import pytest

import factories
from factories import a_cost
from tskd_tune.errors import InputError, RunError
from tskd_tune.records.entries.sittings import moment
from tskd_tune.records.entries.state import FORMAT
from tskd_tune.records.runs import finding, run_folder
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing import store


def a_row(run="t0", seed=1, **changes):
    facts = {"point": {"arm": "baseline"}, "metrics": {"train_top1": 61.5, "test_top1": 60.0}}
    facts |= {"cost": a_cost(12.5, train_seconds=10.0), "experiment": {"seed": seed, "review": None}}
    return factories.a_row(run, seed, **(facts | changes))


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs", "first", "sweep", {"seeds": [1, 2]}, expected=2)


def add_rows(path, run, seeds):
    folder = RunFolder.open(path)
    for seed in seeds:
        folder.add_row(a_row(run, seed))


class TestCreate:
    def test_a_folder_is_whole(self, folder):
        assert folder.document() == {"seeds": [1, 2]}
        assert (folder.path / "trials").is_dir()
        state = json.loads((folder.path / "state.json").read_text())
        assert (state["format"], state["kind"], state["expected"]) == (FORMAT, "sweep", 2)
        assert state["versions"]["tskd-tune"]
        assert [path.name for path in folder.path.parent.iterdir()] == ["first"]
        assert folder.name == "first"

    def test_a_taken_name_is_refused_and_nothing_changes(self, folder):
        with pytest.raises(InputError, match=r"first exists; resume the run with `tskd-tune resume .*--name"):
            RunFolder.create(folder.path.parent, "first", "train", {})
        assert folder.document() == {"seeds": [1, 2]}
        assert [path.name for path in folder.path.parent.iterdir()] == ["first"]

    def test_a_folder_that_is_no_run_is_not_sent_to_a_resume(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "file").touch()
        for name in ("mine", "file"):
            with pytest.raises(InputError, match=rf"{name} exists and is no run; remove it, or choose another --name$"):
                RunFolder.create(tmp_path, name, "sweep", {})
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]

    def test_a_race_for_a_name_has_one_winner(self, folder, monkeypatch):
        monkeypatch.setattr(finding, "refuse_taken", lambda path: None)
        with pytest.raises(InputError, match="cannot be made"):
            RunFolder.create(folder.path.parent, "first", "train", {})
        assert folder.document() == {"seeds": [1, 2]}

    @pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "/abs"])
    def test_a_name_is_plain(self, tmp_path, name):
        with pytest.raises(InputError, match="--name: must be a plain name"):
            RunFolder.create(tmp_path, name, "sweep", {})

    def test_a_storage_that_cannot_be_written_is_a_sentence(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"cannot be made \(Not a directory\); give another --storage"):
            RunFolder.create(tmp_path / "file", "a", "sweep", {})

    def test_a_place_that_cannot_be_used_is_refused_before_anything_is_made(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match=r"deep: the run's folder cannot be made \(.*file is no folder\); give"):
            RunFolder.free(tmp_path / "file" / "a", "deep")
        with pytest.raises(InputError, match="file exists and is no run"):
            RunFolder.free(tmp_path, "file")
        monkeypatch.setattr(finding.os, "access", lambda path, mode: False)
        with pytest.raises(
            InputError, match=r"cannot be made \(this user may not write in .*\); give another --storage"
        ):
            RunFolder.free(tmp_path / "new", "run")
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_numbers_and_order_of_the_document_survive(self, tmp_path):
        document = {"z": 5e-4, "a": 1e-05, "name": "é", "none": None, "list": [1, 2.5, True]}
        folder = RunFolder.create(tmp_path, "a", "train", document)
        assert list(folder.document().items()) == list(document.items())


class TestDiscard:
    def test_a_run_in_which_nothing_was_trained_goes(self, folder):
        folder.discard()
        assert not folder.path.exists()

    def test_what_was_trained_stays(self, folder):
        folder.trial_path("t0").mkdir()
        folder.discard()
        assert folder.path.exists()
        folder.trial_path("t0").rmdir()
        folder.add_row(a_row())
        folder.discard()
        assert folder.rows() == [a_row()]


class TestOpen:
    def test_by_path_and_by_name(self, folder, monkeypatch):
        storage = folder.path.parent
        monkeypatch.chdir(storage.parent)
        for run, there in ((folder.path, storage), ("first", storage), ("runs/first", run_folder.STORAGE)):
            opened = RunFolder.open(run, there)
            assert opened.path.resolve() == folder.path
            assert opened.state == folder.state
        monkeypatch.chdir(folder.path)
        assert RunFolder.open(".").name == "first"

    def test_an_unknown_name_lists_the_known_ones(self, folder, tmp_path):
        with pytest.raises(InputError, match=r"there is no run 'second'; .*runs holds: first"):
            RunFolder.open("second", folder.path.parent)
        with pytest.raises(InputError, match="there is no folder .*nowhere$"):
            RunFolder.open("second", tmp_path / "nowhere")
        with pytest.raises(InputError, match="first holds no run"):
            RunFolder.open("second", folder.path)

    def test_a_path_that_is_missing_is_said_with_the_runs_beside_it(self, folder, tmp_path):
        """It said that the folder of runs holds no run, which had nothing to do with the path that was given."""
        missing, empty = folder.path.parent / "second", tmp_path / "empty"
        empty.mkdir()
        for path, there in (
            (missing, rf"the folder {folder.path.parent} holds: first"),
            (empty / "second", f"the folder {empty} holds no run"),
            (tmp_path / "gone" / "second", f"there is no folder {tmp_path / 'gone'}"),
        ):
            with pytest.raises(InputError, match=rf"^there is no run '{path}'; {there}$"):
                RunFolder.open(path)

    def test_a_path_in_a_run_is_said_with_the_run(self, folder):
        """It said that the run's folder holds no run."""
        for path in (folder.path / "state.json", folder.path / "trials" / "x" / "nothing"):
            with pytest.raises(InputError, match=rf"; the path lies in the run {folder.path}; give this folder$"):
                RunFolder.open(path)

    def test_what_is_no_run_is_refused(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(InputError, match="a is empty; give"):
            RunFolder.open(tmp_path / "a")
        (tmp_path / "a" / "notes.txt").write_text("")
        with pytest.raises(InputError, match="is not a run's folder"):
            RunFolder.open("a", tmp_path)

    def test_another_format_is_refused(self, folder):
        state = folder.path / "state.json"
        state.write_text(json.dumps(folder.state.plain() | {"format": FORMAT + 1, "new": 1}))
        with pytest.raises(InputError, match=rf"has format {FORMAT + 1}, this version reads formats up to {FORMAT}"):
            RunFolder.open(folder.path)
        state.write_text("{")
        with pytest.raises(InputError, match="is damaged"):
            RunFolder.open(folder.path)

    def test_a_damaged_document_is_a_sentence(self, folder):
        for text in ("a: [", "- 1"):
            (folder.path / "sweep.yaml").write_text(text)
            with pytest.raises(InputError, match=r"sweep\.yaml"):
                folder.document()


class TestRows:
    def test_adding_is_idempotent_by_trial_and_seed(self, folder):
        assert folder.rows() == []
        for row in (a_row("t0", 1), a_row("t0", 2), a_row("t1", 1), a_row("t0", 1, epochs=3)):
            folder.add_row(row)
        rows = folder.rows()
        assert [row.key for row in rows] == [("t0", 1), ("t0", 2), ("t1", 1)]
        assert rows[0].epochs == 3
        assert folder.damage() == []

    def test_writing_replaces_all(self, folder):
        folder.add_row(a_row("t0", 1))
        factories.write_rows(folder, [a_row("t9", 4)])
        assert [row.key for row in folder.rows()] == [("t9", 4)]

    def test_rows_are_read_again_only_if_the_file_has_changed(self, folder, monkeypatch):
        folder.add_row(a_row("t0", 1))
        read = []
        monkeypatch.setattr(run_folder, "_row", lambda record: read.append(record) or a_row("t0", record["seed"]))
        assert folder.rows() == folder.rows() and folder.damage() == [] and len(read) == 1
        folder.add_row(a_row("t0", 2))
        assert [row.seed for row in folder.rows()] == [1, 2] and len(read) == 3
        folder.rows_path.unlink()
        assert folder.rows() == []

    def test_a_torn_last_line_is_left_out_and_said(self, folder):
        factories.write_rows(folder, [a_row("t0", 1), a_row("t0", 2)])
        text = folder.rows_path.read_text()
        folder.rows_path.write_text(text[:-20])
        with pytest.warns(UserWarning, match=r"rows\.jsonl:2: the last line is incomplete"):
            assert [row.key for row in folder.rows()] == [("t0", 1)]
        assert len(folder.damage()) == 1
        folder.add_row(a_row("t0", 2))
        assert folder.rows_path.read_text() == text

    def test_a_last_line_without_its_newline_counts(self, folder):
        factories.write_rows(folder, [a_row("t0", 1)])
        folder.rows_path.write_text(folder.rows_path.read_text().rstrip("\n"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(folder.rows()) == 1

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ("{", "rows.jsonl:1: is not a JSON object"),
            ("[1, 2]", "rows.jsonl:1: is not a JSON object"),
            ("  ", "rows.jsonl:1: is a blank line"),
            (b"\xff\x00\xfe", "rows.jsonl:1: is not a JSON object"),
            ("[" * 5000, "rows.jsonl:1: is not a JSON object"),
            ('{"format": 7}', "rows.jsonl:1: has format 7"),
            ('{"format": 1}', "rows.jsonl:1: is not a row: run: is required but missing"),
        ],
    )
    def test_an_odd_line_is_a_sentence_and_hides_nothing_else(self, folder, line, sentence):
        factories.write_rows(folder, [a_row("t0", 1)])
        odd = line if isinstance(line, bytes) else line.encode()
        folder.rows_path.write_bytes(odd + b"\n" + folder.rows_path.read_bytes())
        with pytest.warns(UserWarning):
            assert [row.key for row in folder.rows()] == [("t0", 1)]
        (damage,) = folder.damage()
        assert sentence in damage and "is ignored" in damage
        folder.add_row(a_row("t0", 2))
        assert odd + b"\n" in folder.rows_path.read_bytes(), "what is damaged is never dropped"
        with pytest.warns(UserWarning):
            assert [row.key for row in folder.rows()] == [("t0", 1), ("t0", 2)]

    def test_a_doubled_row_counts_once_as_it_was_last(self, folder):
        factories.write_rows(folder, [a_row("t0", 1), a_row("t0", 2), a_row("t0", 1).model_copy(update={"epochs": 3})])
        assert [(row.key, row.epochs) for row in folder.rows()] == [(("t0", 1), 3), (("t0", 2), a_row("t0", 2).epochs)]

    def test_processes_take_turns(self, folder):
        spawn = multiprocessing.get_context("fork")
        workers = [spawn.Process(target=add_rows, args=(folder.path, f"t{i}", range(5))) for i in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert {row.key for row in folder.rows()} == {(f"t{i}", seed) for i in range(3) for seed in range(5)}

    def test_a_lock_that_stays_held_is_a_sentence(self, folder, monkeypatch):
        monkeypatch.setattr(store, "PATIENCE", 0.0)
        folder.add_row(a_row())
        with folder.rows_path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(RunError, match=r"rows\.jsonl: has been locked for 0 s by another process"):
                folder.add_row(a_row(seed=2))
        folder.add_row(a_row(seed=2))
        assert [row.seed for row in folder.rows()] == [1, 2]

    def test_a_vanished_folder_is_a_sentence(self, folder):
        folder.path.rename(folder.path.with_name("moved"))
        with pytest.raises(RunError, match=r"rows\.jsonl: could not be written \(No such file or directory\)"):
            factories.write_rows(folder, [a_row()])


def untimed(lines):
    assert all(moment(line.time) is not None for line in lines), "every line says when it was written"
    return [{key: value for key, value in line.plain().items() if key != "time"} for line in lines]


class TestHistory:
    def test_the_last_line_of_an_epoch_counts(self, folder):
        folder.append_history("t0", [{"seed": 2, "epoch": 0, "loss": 2.0}, {"seed": 1, "epoch": 0, "loss": 3.0}])
        folder.append_history("t0", [{"seed": 1, "epoch": 1, "loss": 1.0}])
        folder.append_history("t0", [{"seed": 1, "epoch": 0, "loss": float("nan")}])
        assert untimed(folder.history("t0")) == [
            {"seed": 1, "epoch": 0, "loss": None},
            {"seed": 1, "epoch": 1, "loss": 1.0},
            {"seed": 2, "epoch": 0, "loss": 2.0},
        ]
        assert folder.history("t1") == []

    def test_torn_lines_are_left_out(self, folder):
        folder.append_history("t0", [{"seed": 1, "epoch": 0}])
        with folder.history_path("t0", 1).open("a") as file:
            file.write('{"seed": 1, "ep')
        assert untimed(folder.history("t0")) == [{"seed": 1, "epoch": 0}]
        folder.append_history("t0", [{"seed": 1, "epoch": 1}])
        assert [line.epoch for line in folder.history("t0")] == [0, 1]

    def test_where_a_trial_keeps_its_files(self, folder):
        assert folder.trials() == []
        folder.append_history("t1", [{"seed": 1, "epoch": 0}])
        folder.append_history("t0", [{"seed": 1, "epoch": 0}])
        (folder.path / "trials" / "file").write_text("")
        assert folder.trials() == ["t0", "t1"]
        assert folder.student_path("t0", 3) == folder.path / "trials" / "t0" / "student-seed3.pth"
        mode = stat.S_IMODE(folder.path.stat().st_mode)
        assert mode & stat.S_IRWXU == stat.S_IRWXU


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it holds no JSON object"),
        ("[1]", "it holds no JSON object"),
        ("\0\1", "it holds no JSON object"),
        ('{"format": "x"}', "format: "),
        ('{"format": null}', "format: "),
    ],
)
def test_a_damaged_state_is_told_from_another_version(tmp_path, text, sentence):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match=rf"state.json: is damaged: {sentence}.*restore the file from a copy"):
        RunFolder.open(tmp_path)
