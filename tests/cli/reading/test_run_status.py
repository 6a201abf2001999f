"""How far a run is, read off files that another process writes."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

import factories
from factories import a_cost
from tskd_tune.cli.reading import status
from tskd_tune.cli.reading.run_status import RunStatus, Trial, run_status
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.records.entries import teaching
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import report_lines
from tskd_tune.sweeps.declared.schema import Sweep

SEARCH = {"name": "optuna", "trials": 5}
# Of Student's t with two degrees of freedom, from a table.
T_2 = 4.302653


def a_row(run: str, arm: str, accuracy: float | None, seed: int = 1, **over: Any) -> Row:
    metrics = {"test_top1": 99.0} | ({} if accuracy is None else {"val_top1": accuracy, "val_loss": 1.0})
    facts = {"point": {"arm": arm}, "metrics": metrics, "started": "", "finished": "", "cost": a_cost(60)}
    return factories.a_row(run, seed, arm, planned=6, **(facts | over))


def a_folder(root: Path, document: dict[str, Any], expected: int, name: str = "s", **over: Any) -> RunFolder:
    plain = {"experiment": document, "seeds": [1, 2, 3, 4], "search": {"name": "grid"}, **over}
    return RunFolder.create(root, name, "sweep", Sweep.read(plain).plain(), expected=expected)


@pytest.fixture
def folder(tmp_path: Path, tiny_document: dict[str, Any]) -> RunFolder:
    """A sweep of 4 trials of 6 epochs: two are done, one has trained 2 epochs, one has not begun."""
    folder = a_folder(tmp_path, tiny_document, 4)
    for run, arm, accuracy in (("00000", "kd", 60.0), ("00001", "at", 70.0)):
        folder.add_row(a_row(run, arm, accuracy))
    lines = [{"seed": 2, "epoch": epoch, "seconds": 9.0, "eval_seconds": 1.0} for epoch in (0, 1)]
    folder.append_history("00002", lines)
    return folder


def trial(found: RunStatus, run: str) -> Trial:
    return next(each for each in found.trials if each.run == run)


# States and epochs


def test_trials_are_counted_by_state(folder: RunFolder) -> None:
    found = run_status(folder)
    assert found.counts() == {"waiting": 1, "running": 1, "done": 2, "failed": 0, "stopped": 0}
    assert (found.expected, found.epochs, found.epochs_left, found.finished) == (4, 14, 4 + 6, False)
    folder.add_row(a_row("00002", "kd", None, 2, status="failed", reason="the loss is NaN", epochs=3))
    folder.add_row(a_row("00003", "at", 1.0, 2, status="stopped", reason="the scheduler stopped it", epochs=2))
    found = run_status(folder)
    assert found.counts() == {"waiting": 0, "running": 0, "done": 2, "failed": 1, "stopped": 1}
    assert (found.epochs, found.epochs_left, found.finished) == (17, 0, True)


def test_a_judged_trial_carries_its_seeds_and_is_counted_once(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    review = {**tiny_document["review"], "lambda": {"uniform": [1, 2]}}
    document = {**tiny_document, "review": review}
    folder = a_folder(tmp_path, document, 10, search=SEARCH, seeds=[1, 2], scheduler="asha")
    for seed in (1, 2):
        folder.add_row(a_row("00000", "lambda=1", 60.0, seed))
        folder.append_history("00001", [{"seed": seed, "epoch": 0, "seconds": 3.0}])
    found = run_status(folder)
    assert found.counts() == {"waiting": 3, "running": 1, "done": 1, "failed": 0, "stopped": 0}
    assert found.epochs_left == 2 * 5 + 3 * 2 * 6
    # The seeds of a trial train one after the other: only one trial runs, so nothing is shared.
    assert found.left == pytest.approx(found.epochs_left * 3.0)
    assert found.at_most
    assert not run_status(a_folder(tmp_path, document, 10, "fifo", search=SEARCH, seeds=[1, 2])).at_most


def test_a_trial_failed_if_one_of_its_seeds_did(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    review = {**tiny_document["review"], "lambda": {"uniform": [1, 2]}}
    folder = a_folder(tmp_path, {**tiny_document, "review": review}, 10, search=SEARCH, seeds=[1, 2])
    folder.add_row(a_row("00000", "x", None, 1, status="stopped", reason="another seed of its trial failed", epochs=2))
    folder.add_row(a_row("00000", "x", None, 2, status="failed", reason="the loss is not finite", epochs=1))
    (found,) = run_status(folder).trials
    assert (found.state, found.reason) == ("failed", "the loss is not finite")
    assert found.line() == "00000: x, seeds 1, 2 failed, 3 of 12 epochs: the loss is not finite"


def test_trials_are_told_with_their_epochs(folder: RunFolder) -> None:
    assert [each.line() for each in run_status(folder).trials] == [
        "00000: kd, seed 1 done, 6 of 6 epochs",
        "00001: at, seed 1 done, 6 of 6 epochs",
        "00002: seed 2 running, 2 of 6 epochs",
    ]


# What the file of a trial that began adds


def test_a_trial_that_began_says_its_arm_and_its_length(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    document = {**tiny_document, "training": {**tiny_document["training"], "epochs": {"choice": [6, 9]}}}
    folder = a_folder(tmp_path, document, 8)
    folder.append_history("00001", [{"seed": 1, "epoch": 3, "seconds": 1.0}])
    found = run_status(folder)
    assert (trial(found, "00001").planned, found.epochs_left, found.left) == (None, None, None)
    assert trial(found, "00001").line() == "00001: seed 1 running, 4 epochs"

    folder.begin(Begun(run="00001", arm="epochs=9", seeds=[1], epochs=9))
    folder.begin(Begun(run="00002", arm="epochs=6", seeds=[2], epochs=6))
    found = run_status(folder)
    assert trial(found, "00001").line() == "00001: epochs=9, seed 1 running, 4 of 9 epochs"
    assert trial(found, "00002").state == "running"
    assert found.counts()["waiting"] == 6
    assert found.epochs_left == 5 + 6 + 6 * 7.5, "those that wait are as long as others on average"


def test_a_trial_that_broke_has_its_reason_and_the_file_with_its_error(folder: RunFolder) -> None:
    broke = a_row("00002", "kd", None, 2, status="failed", broke=True, reason="RuntimeError: out of memory", epochs=2)
    folder.add_row(folder.keep_error(broke, "Traceback"))
    found = run_status(folder)
    line = "00002: kd, seed 2 broke, 2 of 6 epochs: RuntimeError: out of memory"
    assert trial(found, "00002").line() == f"{line} (the whole error: trials/00002/error-seed2.txt)"
    assert found.plain()["failures"] == [
        {
            "run": "00002",
            "state": "failed",
            "arm": "kd",
            "seeds": (2,),
            "epochs": 2,
            "planned": 6,
            "reason": "RuntimeError: out of memory",
            "broke": True,
            "error": "trials/00002/error-seed2.txt",
            "host": "",
            "cut": False,
        }
    ]
    assert found.epochs_left == 4 + 6, "a resume trains what broke to its end"
    assert found.plain()["trials"]["broke"] == 1 and not found.finished
    assert "1 broke" in status.short(found)
    folder.add_row(a_row("00003", "kd", 50.0))
    assert not run_status(folder).finished


def test_a_trial_that_only_began_is_told_with_its_arm(folder: RunFolder) -> None:
    folder.begin(Begun(run="00003", arm="dkd", seeds=[3], epochs=9))
    assert trial(run_status(folder), "00003").line() == "00003: dkd, seed 3 running, 0 of 9 epochs"


def test_the_best_is_by_the_validation_mean_with_its_interval(folder: RunFolder) -> None:
    best = run_status(folder).best
    assert best is not None and (best.arm, best.among) == ("at", 2)
    assert best.line() == "at, val top-1 (%) 70.00 (one seed: no standard deviation and no interval can be given)"
    values = [60.0, 75.5, 81.0]
    for seed, value in enumerate(values[1:], start=2):
        folder.add_row(a_row(f"0001{seed}", "kd", value, seed))
    mean, half = statistics.fmean(values), T_2 * statistics.stdev(values) / math.sqrt(3)
    best = run_status(folder).best
    assert best is not None and best.arm == "kd" and best.found.interval is not None
    assert (best.found.interval.low, best.found.interval.high) == pytest.approx((mean - half, mean + half), rel=1e-6)
    assert (
        best.line() == f"kd, val top-1 (%) {mean:.2f}, 95 % interval {mean - half:.2f} to {mean + half:.2f} (3 seeds)"
    )


def test_failed_and_stopped_seeds_are_no_part_of_the_best(folder: RunFolder) -> None:
    folder.add_row(a_row("00004", "lucky", 99.0, 1, status="stopped", reason="x", epochs=1))
    folder.add_row(a_row("00005", "broken", 98.0, 1, status="failed", reason="x", epochs=1))
    best = run_status(folder).best
    assert best is not None and best.arm == "at"


def test_the_searched_metric_and_its_mode_choose_the_best(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    review = {**tiny_document["review"], "lambda": {"uniform": [1, 2]}}
    search = {**SEARCH, "metric": "val_loss", "mode": "min"}
    folder = a_folder(tmp_path, {**tiny_document, "review": review}, 5, search=search, seeds=[1])
    for place, loss in enumerate((2.0, 0.5, 1.0)):
        folder.add_row(a_row(f"0000{place}", f"arm{place}", 50.0, metrics={"val_top1": 90.0 + place, "val_loss": loss}))
    best = run_status(folder).best
    assert best is not None and (best.arm, best.metric, best.found.mean) == ("arm1", "val_loss", 0.5)


def test_no_best_is_named_by_the_test_part(
    tmp_path: Path, tiny_document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_folder(tmp_path, tiny_document, 4)
    status.status(str(folder.path), Path("runs"))
    assert "no best arm is" not in capsys.readouterr().out, "nothing is done yet"
    folder.add_row(a_row("00000", "kd", None))
    assert run_status(folder).best is None
    status.status(str(folder.path), Path("runs"))
    assert "no best arm is shown: the validation set was not measured" in capsys.readouterr().out


# Time


def test_the_time_left_is_the_epochs_left_at_the_mean_cost(folder: RunFolder) -> None:
    found = run_status(folder)
    assert found.left == pytest.approx((4 + 6) * 10.0)
    folder.append_history("00003", [{"seed": 3, "epoch": 0, "seconds": 10.0}])
    assert run_status(folder).left == pytest.approx((4 + 5) * 10.0 / 2), "two are under way at once"


def test_trainings_of_one_process_do_not_divide_the_time_left(folder: RunFolder) -> None:
    for run, seed in (("00002", 2), ("00003", 3)):
        folder.begin(Begun(run=run, arm="kd", seeds=[seed], epochs=6, bundle="00002"))
    folder.append_history("00003", [{"seed": 3, "epoch": 0, "seconds": 10.0}])
    assert run_status(folder).left == pytest.approx((4 + 5) * 10.0), "they take turns"


def at(second: float) -> str:
    return (CREATED + timedelta(seconds=second)).isoformat()


CREATED = datetime(2026, 1, 1, 12, tzinfo=UTC)


def dated(folder: RunFolder, *sittings: tuple[float, float | None], lines: Sequence[float] = ()) -> RunFolder:
    """Give a run that was created at noon its sittings, and a history with an epoch at each of these seconds."""
    shutil.rmtree(folder.trial_path("00002"))
    folder.rows_path.unlink(missing_ok=True)
    told = [
        {name: at(time)}
        for pair in sittings
        for name, time in zip(("begun", "ended"), pair, strict=True)
        if time is not None
    ]
    (folder.path / "sittings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    path = folder.history_path("00002", 2)
    path.parent.mkdir(parents=True)
    epochs = [{"seed": 2, "epoch": number, "seconds": 9.0, "time": at(time)} for number, time in enumerate(lines)]
    path.write_text("".join(json.dumps(line) + "\n" for line in epochs))
    state = folder.state.model_copy(update={"created": CREATED.isoformat()})
    (folder.path / "state.json").write_text(json.dumps(state.plain()) + "\n")
    return RunFolder.open(folder.path)


def test_the_time_worked_is_that_of_all_sittings_without_what_lies_between(folder: RunFolder) -> None:
    """The first was killed 40 s after it began, the second ended, the third was killed before it trained."""
    run = dated(folder, (0, None), (3600, 3630), (7200, None), lines=[20, 40, 3610])
    found = run_status(run, CREATED + timedelta(seconds=7205))
    assert (found.elapsed, found.sittings) == (40 + 30, 3)
    assert (found.running, found.ended, found.finished) == (None, False, False), "no lock tells that it was trained"
    assert found.silent == 5


def test_a_copy_has_the_times_of_its_original(folder: RunFolder, tmp_path: Path) -> None:
    run = dated(folder, (0, 100), lines=[30, 90])
    copied = Path(shutil.copytree(run.path, tmp_path / "copied"))
    for path in copied.rglob("*"):
        os.utime(path, (0, 0))
    later = CREATED + timedelta(days=1)
    one, other = run_status(run, later), run_status(RunFolder.open(copied), later)
    assert (other.elapsed, other.silent) == (one.elapsed, one.silent) == (100, 24 * 3600 - 100)


def test_a_run_of_an_older_version_lasted_until_its_last_record(folder: RunFolder) -> None:
    """Its history has no times, so that the trial under way lasted as long as its epochs at least."""
    run = dated(folder)
    (run.path / "sittings.jsonl").unlink()
    run.history_path("00002", 2).write_text(json.dumps({"seed": 2, "epoch": 0, "seconds": 8.0, "eval_seconds": 2.0}))
    assert run_status(run).elapsed == 10
    run.add_row(a_row("00000", "kd", 60.0, started=at(0), finished=at(70)))
    found = run_status(run, CREATED + timedelta(seconds=80))
    assert (found.elapsed, found.sittings, found.silent, found.running) == (70, 1, 10, None)
    (run.path / "sittings.jsonl").write_text(json.dumps({"begun": at(500)}) + "\n" + json.dumps({"ended": at(505)}))
    assert (run_status(run).elapsed, run_status(run).sittings) == (70 + 5, 2), "resumed by this version"


def test_a_run_that_holds_its_lock_is_running_and_one_that_lost_it_was_interrupted(folder: RunFolder) -> None:
    with folder.alone():
        found = run_status(folder)
        assert found.running and not found.ended
        with pytest.raises(InputError, match="another process trains this run"), folder.alone():
            pass
    found = run_status(folder)
    assert found.running is False and found.ended and not found.finished
    assert "interrupted" in status.lines(folder, found)[-1] and str(folder.path) in status.lines(folder, found)[-1]


# Teachers


def taught(folder: RunFolder) -> Listener:
    return teaching.noted(folder.store, lambda event: None)


def test_the_training_of_a_teacher_is_shown_with_its_time_left(folder: RunFolder) -> None:
    hear = taught(folder)
    for epoch in range(3):
        hear(Event("teacher", "resnet20", "k1", epoch=epoch, epochs=60, metrics={"seconds": 1.5, "eval_seconds": 0.5}))
    hear(Event("waiting", "vgg8", "k2", epochs=30))
    hear(Event("epoch", "kd", "00002", 2, 5, 6))
    found = run_status(folder)
    assert [(one.state, one.epochs, one.planned, one.left) for one in found.teachers] == [
        ("training", 3, 60, 57 * 2.0),
        ("waiting", 0, 30, None),
    ]
    assert status.lines(folder, found)[1:3] == [
        "teacher resnet20: 3 of 60 epochs, roughly 1.9 min left; the trainings begin after it",
        "teacher vgg8: another run trains the same teacher now; this run waits for it",
    ]
    for name, key in (("resnet20", "k1"), ("vgg8", "k2")):
        hear(Event("ready", name, key, metrics={"parameters": 5, "test_top1": 91.5}))
    found = run_status(folder)
    assert [(one.state, one.metrics) for one in found.teachers] == [("ready", {"test_top1": 91.5})] * 2
    assert not any(line.startswith("teacher") for line in status.lines(folder, found))
    assert [one["epochs"] for one in found.plain()["teachers"]] == [3, 0]


def test_a_teacher_that_broke_is_named_with_its_reason_until_it_is_trained_again(folder: RunFolder) -> None:
    hear = taught(folder)
    hear(Event("teacher", "resnet20", "k1", epoch=0, epochs=60, metrics={"seconds": 1.5}))
    hear(Event("broken", "resnet20", "k1", epochs=60, reason="RuntimeError: boom"))
    sentence = "teacher resnet20 broke after 1 of 60 epochs: RuntimeError: boom"
    found = run_status(folder)
    assert [(one.state, one.reason) for one in found.teachers] == [("broken", "RuntimeError: boom")]
    assert any(line.startswith(sentence) for line in status.lines(folder, found))
    assert any(line.startswith(sentence) for line in report_lines.ending_lines(summary(folder)))
    hear(Event("teacher", "resnet20", "k1", epoch=1, epochs=60, metrics={"seconds": 1.5}))
    assert [(one.state, one.reason) for one in run_status(folder).teachers] == [("training", None)]
    assert not any(line.startswith("teacher") for line in report_lines.ending_lines(summary(folder)))


def test_a_torn_line_of_a_teacher_is_left_out(folder: RunFolder) -> None:
    taught(folder)(Event("teacher", "resnet20", "k1", epoch=0, epochs=60, metrics={"seconds": 1.5}))
    with (folder.path / teaching.FILE).open("a") as file:
        file.write('{"what": "epoch", "teacher": "resn')
    (found,) = run_status(folder).teachers
    assert (found.epochs, found.left) == (1, 59 * 1.5)


# Watching


def test_watching_tells_each_change_once_until_the_run_has_ended(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(9))

    def pass_time(seconds: float) -> None:
        assert seconds == 7.0
        look = next(looks)
        if look == 1:
            folder.append_history("00002", [{"seed": 2, "epoch": 2, "seconds": 9.0}])
        if look == 3:
            folder.add_row(a_row("00002", "kd", 61.0, 2))
            folder.add_row(a_row("00003", "at", 71.0, 2))

    monkeypatch.setattr(status.time, "sleep", pass_time)
    status.status(str(folder.path), Path("runs"), watch=7.0)
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(" epochs")[0].split(", ")[-1] for line in told[:3]] == ["14 of 24", "15 of 24", "24 of 24"]
    assert "4 done" in told[2] and told[-1].endswith("of work; ended"), "the whole status at the end"


def test_watching_is_left_by_an_interrupt(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", interrupt)
    with pytest.raises(typer.Exit) as left:
        status.status(str(folder.path), Path("runs"), watch=1.0)
    assert left.value.exit_code == 130


def test_watching_gives_no_json(folder: RunFolder) -> None:
    with pytest.raises(InputError, match="--json: cannot be combined with --watch"):
        status.status(str(folder.path), Path("runs"), as_json=True, watch=1.0)


def test_nothing_is_guessed_before_anything_was_trained(tmp_path: Path, tiny_document: dict[str, Any]) -> None:
    plain = Experiment.read(tiny_document).plain()
    found = run_status(RunFolder.create(tmp_path, "t", "train", plain, expected=1))
    assert (found.left, found.best, list(found.trials), list(found.teachers)) == (None, None, [], [])
    assert found.counts()["waiting"] == 1 and not found.finished


# Beside a process that writes


def contents(folder: RunFolder) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.filterwarnings("error")
def test_looking_changes_nothing_and_takes_half_written_lines(folder: RunFolder) -> None:
    whole = run_status(folder)
    with folder.history_path("00002", 2).open("ab") as file:
        file.write('{"seed": 2, "epoch": 2, "arm": "é'.encode()[:-1])
    with folder.rows_path.open("ab") as file:
        file.write(b'{"format": 1, "run": "00002"')
    (folder.path / "rows.lock").write_text("")
    before = contents(folder)
    found = run_status(folder)
    assert found.trials == whole.trials and found.left == whole.left
    assert len(found.damage) == 1 and "is incomplete" in found.damage[0]
    assert contents(folder) == before


# The command


def test_the_command_says_it_in_words(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add_row(a_row("00003", "at", None, 2, status="failed", reason="the loss is NaN", epochs=1))
    status.status(str(folder.path), Path("runs"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder.path}: 4 trials: 1 running, 2 done, 1 failed, 15 of 19 epochs trained"
    assert lines[1:4] == [
        "  00002: seed 2 running, 2 of 6 epochs",
        "  00003: at, seed 2 failed, 1 of 6 epochs: the loss is NaN",
        "best so far (of 2 arms): at, val top-1 (%) 70.00 (one seed: no standard deviation and no interval can be"
        " given); the best of several looks better than it is",
    ]
    assert lines[4].endswith("roughly 40.0 s left")


def test_the_command_gives_one_json_object(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    status.status(str(folder.path), Path("runs"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == {
        "expected": 4,
        "waiting": 1,
        "running": 1,
        "done": 2,
        "failed": 0,
        "stopped": 0,
        "broke": 0,
    }
    assert found["epochs"] == {"trained": 14, "left": 10}
    assert found["best"]["arm"] == "at" and found["best"]["found"]["mean"] == 70.0
    assert found["seconds"]["left_roughly"] == pytest.approx(100.0) and found["seconds"]["left_is_at_most"] is False
    assert [each["run"] for each in found["each"]] == ["00000", "00001", "00002"]
    assert (found["finished"], found["failures"], found["damage"]) == (False, [], [])


def test_a_record_of_the_second_in_which_the_first_sitting_began_is_no_earlier_sitting(folder: RunFolder) -> None:
    """Where a run is slow to make, as on an object storage, its first trial begins a whole second after the run."""
    run = dated(folder, (2.5, 60), lines=[30])
    run.add_row(a_row("00000", "kd", 60.0, started=at(2), finished=at(50)))
    assert run_status(run).sittings == 1
    run.add_row(a_row("00001", "kd", 60.0, started=at(1), finished=at(50)))
    assert run_status(run).sittings == 2, "an older version recorded no sitting"
