"""Under ``evaluation: {test: never}`` nothing reads the test set: not the student's training, and not the teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tskd_tune
from tskd_tune import networks
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.teacher import obtain, teacher_key
from tskd_tune.networks.weights import read_state, write_state
from tskd_tune.records.entries.row import Row, TeacherRecord
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.trials.trainable import SweepTrial
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import SyntheticImages
from tskd_tune.training.teachers import TeacherCache

Tiny = Callable[..., Experiment]
NEVER = {"test": "never"}


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise where the test set is opened, to be evaluated or to be shown."""
    evaluation, samples = Task.evaluation, SyntheticImages.samples

    def opened(self: Any, part: str, *rest: Any) -> Any:
        assert part != "test", "the test set was read"
        return evaluation(self, part, *rest)

    def shown(self: Any, part: str) -> Any:
        assert part != "test", "the test set was shown"
        return samples(self, part)

    monkeypatch.setattr(Task, "evaluation", opened)
    monkeypatch.setattr(SyntheticImages, "samples", shown)


def silent(record: object) -> None:
    pass


def weights(path: Path) -> Path:
    torch.manual_seed(3)
    write_state(path, networks.build("resnet14", 4), facts={"accuracy": 43.21, "name": "resnet14"})
    return path


@pytest.mark.usefixtures("sealed")
def test_a_training_reads_it_neither_for_the_student_nor_for_any_teacher(tiny: Tiny, tmp_path: Path) -> None:
    given = str(weights(tmp_path / "given.pth"))
    tuned = {"weights": given, "fine_tune": {"epochs": 1, "lr": 0.01}}
    for number, teacher in enumerate(({"weights": given}, tuned)):
        experiment = tiny(teacher=teacher, evaluation=NEVER, training={"epochs": 3}, seed=11)
        told: list[Any] = []
        folder = tskd_tune.train(experiment, f"run{number}", storage=tmp_path, listener=told.append, track=False)
        (row,) = folder.rows()
        assert row.status == "done" and not any("examples" in said for said in row.warnings)
        assert row.teacher is not None and row.teacher.metrics.keys() == {"val_top1"}
        assert not any(name.startswith("test_") for name in row.metrics)
        text = markdown(summary(folder))
        assert "test top-1" not in text and "test_top1" not in text and "43.21" not in text
        assert "Teacher resnet14: val top-1 " in text
        assert "'test_" not in repr(told)


@pytest.mark.usefixtures("sealed")
def test_a_sweep_reads_it_neither(tiny: Tiny, tmp_path: Path) -> None:
    experiment = tiny(evaluation=NEVER, training={"epochs": 3}, distiller="ekd", teacher={"weights": "untrained"})
    for one in (experiment, tiny(evaluation=NEVER, training={"epochs": 3}, distiller="kd")):
        plain = {key: value for key, value in one.plain().items() if key != "seed"}
        told = {"number": 0, "arm": "a", "point": {}, "teacher": None, "identity": identity(one)}
        ships = Shipped("sweep", None, "val_top1", "max", {}, run=tmp_path)

        class Local(SweepTrial):
            def setup(self, given: dict[str, Any], shipped: Shipped | None = None, ships: Shipped = ships) -> None:
                super().setup(given, ships)

        trial = Local({**told, "experiment": plain, "seeds": [1]})
        for _ in range(3):
            result = trial.step()
        (row,) = (Row.model_validate(row) for row in result["rows"])
        measured = {**row.metrics, **(row.teacher.metrics if row.teacher is not None else {})}
        assert row.status == "done" and not any(name.startswith("test_") for name in measured)


def test_runs_that_read_it_and_runs_that_do_not_share_a_teacher(tiny: Tiny, tmp_path: Path) -> None:
    """Whoever trains the teacher first, each run is told what it may read, and the teacher is trained once."""
    never, last = tiny(evaluation=NEVER), tiny()
    assert teacher_key(never) == teacher_key(last)
    ways = {}
    for order in ((never, last), (last, never)):
        cache = TeacherCache(tmp_path / str(len(ways)))
        found = {one.evaluation.test: obtain(one, cache, silent) for one in order}
        assert found["never"] is not None and found["last"] is not None
        assert found["never"].metrics.keys() == {"val_top1"} and found["last"].metrics.keys() == {"test_top1"}
        assert found["never"].path == found["last"].path and found["last"].path is not None
        ways[order[0].evaluation.test] = (dict(found["last"].metrics), dict(found["never"].metrics))
        state = read_state(found["last"].path).state
    assert ways["never"] == ways["last"] and state
    # A fine-tuned teacher that another run measured on the test set before its training does not pass the number on.
    given = {"weights": str(weights(tmp_path / "given.pth")), "fine_tune": {"epochs": 1, "lr": 0.01}}
    cache = TeacherCache(tmp_path / "tuned")
    sources = [obtain(tiny(teacher=given, evaluation={"test": test}), cache, silent) for test in ("last", "never")]
    assert [one.source.partition("epochs (")[2][:8] for one in sources if one] == ["test_top", "val_top1"]


def test_a_teacher_that_is_worse_on_the_validation_set_is_said_too(tmp_path: Path) -> None:
    from factories import a_row, write_rows
    from tskd_tune.records.runs.run_folder import RunFolder

    teacher = TeacherRecord(name="resnet14", source="auto", key="k", metrics={"val_top1": 60.0})
    rows = [a_row("t", seed, "kd", teacher=teacher, metrics={"val_top1": 70.0}) for seed in (1, 2)]
    folder = RunFolder.create(tmp_path, "first", "sweep", {"search": {"name": "grid"}})
    write_rows(folder, rows)
    assert "its validation top-1 of 60.00 % is below the mean of its student" in markdown(summary(folder))
