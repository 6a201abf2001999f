"""One experiment on this machine: wherever it is cut off, a resume ends with the very same student."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from tskd_tune import documents, local, single
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.networks.weights import read_state
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.session import Session
from tskd_tune.tasks.base import Task
from tskd_tune.training import checkpoint
from tskd_tune.training.checkpoint import Saver
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.reviewing import Reviewing
from tskd_tune.training.teachers import CACHE_VARIABLE

# Epoch 0 is general, 1, 2, 4 and 5 memorize, 3 and 6 review.
DOCUMENT: dict[str, Any] = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 16, "validation": 4, "test": 8},
    "teacher": {"name": "resnet8", "training": {"epochs": 2, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "review": {"k": 2, "delta": 1, "plan": {"first_memory": 1}, "extractor": {"name": "conv_lstm", "hidden": 2}},
    "training": {"epochs": 7, "lr": 0.05, "device": "cpu", "threads": 1, "checkpoint": {"seconds": 0}},
}
STEPS = 2


def ignore(event: Event) -> None:
    """Hear nothing."""


def experiment(**over: Any) -> Experiment:
    return Experiment.read(documents.merge(copy.deepcopy(DOCUMENT), over))


def start(name: str, storage: Path, listener: Listener = ignore, **over: Any) -> RunFolder:
    return local.start(experiment(**over), name, storage, listener, track=False)


def essence(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the history without what no two runs have in common: times."""
    lines = folder.history(local.RUN)
    return [
        {key: value for key, value in line.plain().items() if not key.endswith(("seconds", "time"))} for line in lines
    ]


def tensors(folder: RunFolder) -> dict[str, torch.Tensor]:
    return dict(read_state(folder.student_path(local.RUN, 1)).state)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, teacher_cache: Path) -> Iterator[RunFolder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(teacher_cache))
        yield start("whole", tmp_path_factory.mktemp("runs"))


def test_a_training_leaves_its_row_history_checkpoint_student_and_report(unbroken: RunFolder) -> None:
    (row,) = unbroken.rows()
    assert (row.run, row.seed, row.status, row.epochs) == ("0", 1, "done", 7)
    assert row.plan.review == [3, 6] and row.plan.memorize == [1, 2, 4, 5]
    assert row.arm == "resnet8, review"
    assert row.metrics.keys() >= {"test_top1", "val_top1", "loss"}
    assert [line.epoch for line in unbroken.history("0")] == list(range(7))
    assert (unbroken.state.kind, unbroken.state.expected) == ("train", 1)
    assert Experiment.read(unbroken.document()) == experiment()
    own = f"trainings/{row.identity}-seed1"
    for file in (f"{own}/checkpoint.pt", f"{own}/student.pth", "report.html", "report.md"):
        assert (unbroken.path / file).stat().st_size > 0
    assert not (unbroken.path / "wandb").exists()


Break = Callable[[pytest.MonkeyPatch], None]


def in_step(number: int) -> Break:
    """Interrupt in the middle of the ``number``-th step of the student's training."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = EagerEngine.step, []

        def step(self: EagerEngine, *arguments: Any, **options: Any) -> Any:
            calls.append(1)
            done = real(self, *arguments, **options)
            if len(calls) == number + 1:
                raise KeyboardInterrupt
            return done

        monkeypatch.setattr(EagerEngine, "step", step)

    return patch


def before(owner: Any, name: str, call: int = 0) -> Break:
    """Interrupt instead of a call, the ``call``-th one."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = getattr(owner, name), []

        def broken(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == call + 1:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, broken)

    return patch


BREAKS = {
    "in the first, general epoch": (in_step(0), 0),
    "in a memory epoch": (in_step(2 * STEPS + 1), 2),
    "in the first review": (in_step(3 * STEPS + 1), 3),
    "after a review": (in_step(4 * STEPS), 4),
    "in the last review": (in_step(6 * STEPS + 1), 6),
    "before a history line": (before(RunFolder, "append_history", 3), 3),
    "between history and checkpoint": (before(Saver, "save", 3), 3),
    "before the last checkpoint": (before(Saver, "finish"), 7),
    "before the student is written": (before(Session, "write_student"), 7),
    "before the row": (before(RunFolder, "add_row"), 7),
    "before the report": (before(local, "write_report"), 7),
}


def test_a_training_whose_data_have_changed_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its first epochs would be of other images than those that its row names."""

    def break_off(event: Event) -> None:
        if event.what == "epoch" and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("cut", tmp_path, break_off, training={"checkpoint": {"seconds": 0}})
    monkeypatch.setattr(Task, "fingerprint", lambda self: "other images")
    folder, epochs = RunFolder.open(tmp_path / "cut"), list[int]()
    with pytest.warns(UserWarning, match="^the data have changed since this checkpoint was written; the training"):
        local.resume(folder, lambda event: epochs.append(event.epoch) if event.what == "epoch" else None, track=False)
    assert epochs == list(range(7)) and folder.rows()[0].data.fingerprint == "other images"


@pytest.mark.parametrize("where", BREAKS)
@pytest.mark.parametrize("seconds", [0, 30])
def test_a_training_that_is_cut_off_ends_with_the_same_student(
    where: str, seconds: float, unbroken: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, kept = BREAKS[where]
    if seconds == 30:
        kept = 7 if where in ("before the student is written", "before the row", "before the report") else 0
        if where == "between history and checkpoint":
            pytest.skip("no checkpoint is due")
    with monkeypatch.context() as patch:
        cut(patch)
        with pytest.raises(KeyboardInterrupt):
            start("cut", tmp_path, training={"checkpoint": {"seconds": seconds}})
    heard: list[Event] = []
    folder = local.resume(RunFolder.open(tmp_path / "cut"), heard.append, track=False)
    assert [event.epoch for event in heard if event.what == "epoch"] == list(range(kept, 7))
    whole, again = tensors(unbroken), tensors(folder)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert essence(folder) == essence(unbroken)
    (row,) = folder.rows()
    assert row.metrics == unbroken.rows()[0].metrics
    assert (folder.path / "report.html").exists()


@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_is_left_out_with_a_sentence(tmp_path: Path, both: bool) -> None:
    whole = start("whole", tmp_path)
    epochs: list[int] = []

    def break_off(event: Event) -> None:
        epochs.append(event.epoch)
        if event.what == "epoch" and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("cut", tmp_path, break_off)
    folder = RunFolder.open(tmp_path / "cut")
    saved = folder.checkpoint_path(local.RUN, 1)
    assert checkpoint.whole_files(saved) == [saved, checkpoint.older(saved)]
    for path in (saved, checkpoint.older(saved))[: 2 if both else 1]:
        content = path.read_bytes()
        path.write_bytes(content[:9000] + bytes([content[9000] ^ 1]) + content[9001:])
    again: list[int] = []
    with pytest.warns(UserWarning, match="it is damaged: .*; the training goes on from an older"):
        local.resume(folder, lambda event: again.append(event.epoch) if event.what == "epoch" else None, track=False)
    assert again == [*range(0 if both else 3, 7)]
    first, second = (read_state(run.student_path(local.RUN, 1)).state for run in (whole, folder))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [line.epoch for line in folder.history(local.RUN)] == list(range(7))


def test_a_teacher_that_is_cut_off_is_trained_again(
    unbroken: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    heard: list[tuple[str, str, int, int]] = []

    def break_off(event: Event) -> None:
        heard.append((event.what, event.arm, event.epoch, event.epochs))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("cut", tmp_path, break_off)
    assert heard == [("teacher", "resnet8", 0, 2)]
    folder = local.resume(RunFolder.open(tmp_path / "cut"), ignore, track=False)
    assert all(torch.equal(tensor, tensors(folder)[name]) for name, tensor in tensors(unbroken).items())


def test_a_listener_hears_the_teacher_every_epoch_and_the_row(tmp_path: Path) -> None:
    heard: list[Event] = []
    start("heard", tmp_path, heard.append)
    assert [event.what for event in heard if event.what != "teacher"] == ["ready", *["epoch"] * 7, "finished"]
    ready = next(event for event in heard if event.what == "ready")
    assert ready.arm == "resnet8" and ready.reason == "auto"
    assert ready.metrics is not None and ready.metrics["parameters"] == 77_652 and ready.metrics["test_top1"] >= 0
    assert (heard[-1].run, heard[-1].seed, heard[-1].epoch) == ("0", 1, 6)


def test_another_seed_is_another_student(unbroken: RunFolder, tmp_path: Path) -> None:
    other = start("other", tmp_path, seed=2)
    theirs = read_state(other.student_path("0", 2)).state
    assert not torch.equal(tensors(unbroken)["conv1.weight"], theirs["conv1.weight"])


def test_a_training_that_diverges_fails_with_its_reason(tmp_path: Path) -> None:
    training = {"lr": 1e18, "epochs": 3}
    with pytest.raises(RunError, match="epoch 0: the loss is not finite") as caught:
        start("wild", tmp_path, review=None, training=training, task={"noise": 1e6})
    folder = RunFolder.open(tmp_path / "wild")
    (row,) = folder.rows()
    assert row.status == "failed" and row.reason is not None and row.reason in str(caught.value)
    assert not folder.student_path("0", 1).exists()
    assert (folder.path / "report.html").exists()


class Tracking:
    """Stands in for W&B."""

    made: ClassVar[list[Tracking]] = []

    def __init__(self, folder: Path, **identity: Any) -> None:
        self.folder, self.identity, self.calls = folder, identity, []
        self.warning: str | None = None
        self.made.append(self)

    def start(self, config: dict[str, Any]) -> None:
        self.calls.append("start")

    def log(self, epoch: int, metrics: dict[str, Any]) -> None:
        self.calls.append(epoch)

    def finish(self, summary: dict[str, Any], *, failed: bool = False) -> None:
        self.calls.append(summary["status"])


def test_tracking_is_told_every_epoch_and_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "WandbTracker", Tracking)
    monkeypatch.setattr(Tracking, "made", [])
    short = experiment(review=None, training={"epochs": 2})
    local.start(short, "silent", tmp_path, ignore, track=False)
    assert Tracking.made == []
    local.start(short, "heard", tmp_path, ignore)
    (tracking,) = Tracking.made
    assert tracking.calls == ["start", 0, 1, "done"]
    assert tracking.identity["sweep"] == "heard" and tracking.identity["seed"] == 1


@pytest.mark.parametrize(("began", "says", "tracked"), [(False, None, False), (False, True, True), (True, None, True)])
def test_a_resume_is_tracked_as_its_run_began(
    began: bool, says: bool | None, tracked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "WandbTracker", Tracking)
    short = experiment(review=None, training={"epochs": 1})
    folder = RunFolder.create(tmp_path, "one", "train", short.plain(), expected=1, tracked=began)
    monkeypatch.setattr(Tracking, "made", [])
    local.resume(RunFolder.open(folder.path), ignore, track=says)
    assert len(Tracking.made) == tracked


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(documents.dump(document))
    return path


def test_a_file_is_read_with_settings_and_extends(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", DOCUMENT)
    file = write(tmp_path / "e.yaml", {"extends": "base.yaml", "seed": 5})
    read = single.read(file, ["review.k=1"])
    assert (read.seed, read.review and read.review.k, read.student.name) == (5, 1, "resnet8")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"experiment": DOCUMENT, "search": {"name": "grid"}}, "is a sweep .*tskd-tune sweep"),
        (
            {**DOCUMENT, "seed": 1, "training": {"lr": {"uniform": [0.1, 0.2]}}},
            r"training.lr: has a value to search \(uniform\)",
        ),
        ({**DOCUMENT, "sed": 1}, "unknown key 'sed'"),
    ],
)
def test_what_is_no_single_experiment_is_refused(document: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        single.read(write(tmp_path / "e.yaml", document))


def test_nothing_is_made_where_the_parts_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        start("never", tmp_path, teacher={"weights": str(tmp_path / "missing.pth")})
    assert list(tmp_path.iterdir()) == []


def test_a_taken_name_and_a_sweep_are_refused(unbroken: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists; resume the run"):
        start(unbroken.name, unbroken.path.parent)
    sweep = RunFolder.create(tmp_path, "s", "sweep", {})
    with pytest.raises(InputError, match="is a sweep, not a single training"):
        local.resume(sweep, ignore)


def test_parts_that_do_not_fit_are_said_with_their_line(tmp_path: Path) -> None:
    missing, file = tmp_path / "none.pth", write(tmp_path / "e.yaml", DOCUMENT)
    assert single.read_checked(file) == single.read(file)
    with pytest.raises(InputError, match=rf"^--set teacher.weights={missing}: teacher.weights: there is no file"):
        single.read_checked(file, [f"teacher.weights={missing}"])
    rest = documents.dump({key: value for key, value in DOCUMENT.items() if key != "teacher"})
    file.write_text(f"teacher:\n  name: resnet8\n  weights: {missing}\n{rest}")
    with pytest.raises(InputError, match=rf"^{file}:3: teacher.weights: there is no file"):
        single.read_checked(file)


def test_a_taken_name_is_refused_before_the_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of ImageNet are read for an hour."""
    RunFolder.create(tmp_path, "taken", "train", {})
    monkeypatch.setattr(local, "read_data", lambda *_: pytest.fail("the data were read"))
    with pytest.raises(InputError, match="exists; resume the run"):
        start("taken", tmp_path)


@pytest.mark.parametrize(
    ("over", "label"),
    [({}, "resnet8, review"), ({"review": None}, "resnet8"), ({"distiller": {"name": "kd"}}, "resnet8, kd, review")],
)
def test_a_training_goes_by_what_it_trains(over: dict[str, Any], label: str) -> None:
    assert single.label(experiment(**over)) == label


def test_a_training_that_breaks_has_a_row_with_its_reason_and_a_resume_mends_it(
    unbroken: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Reviewing.begin_epoch

    def begin_epoch(self: Reviewing, epoch: int, *arguments: Any) -> None:
        if epoch == 4:
            raise MemoryError
        whole(self, epoch, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Reviewing, "begin_epoch", begin_epoch)
        with pytest.raises(RunError, match="seed 1: MemoryError.*when the cause is removed, run: tskd-tune resume"):
            start("broken", tmp_path)
    folder = RunFolder.open(tmp_path / "broken")
    (row,) = folder.rows()
    assert (row.status, row.broke, row.epochs, row.run, row.arm) == ("failed", True, 4, "0", "resnet8, review")
    assert "in epoch" in (folder.path / (row.error or "")).read_text()
    assert "MemoryError" in (folder.path / "report.html").read_text()
    (folder.path / ".rows.jsonl.0123.part").write_text("half")
    local.resume(RunFolder.open(tmp_path / "broken"), ignore, track=False)
    (row,) = folder.rows()
    assert (row.status, row.broke, row.epochs) == ("done", False, 7)
    assert not folder.error_path("0", 1).exists() and not list(folder.path.glob(".*.part"))
    first, second = tensors(unbroken), tensors(folder)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_training_that_cannot_be_built_has_a_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(local, "Session", broken)
    with pytest.raises(RunError, match="RuntimeError: no such kernel"):
        start("unbuilt", tmp_path)
    (row,) = RunFolder.open(tmp_path / "unbuilt").rows()
    assert (row.broke, row.epochs, row.epochs_planned) == (True, 0, 7)
