"""What a training leaves to look at: its own answers, and once a run the pictures and the answers of the teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune import local
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.networks.weights import read_state
from tskd_tune.records.kept import kept_examples
from tskd_tune.records.kept.examples import ClassAnswers, Examples, examples_of, examples_of_teacher, pictures_of
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.workplace import Workplace
from tskd_tune.storage.objects import Objects
from tskd_tune.tasks.examples import Breakdown

Tiny = Callable[..., Experiment]
SHORT: dict[str, Any] = {"training": {"epochs": 1}, "review": None, "distiller": {"name": "kd"}}


def trained(experiment: Experiment, folder: Path, name: str = "one") -> RunFolder:
    return local.start(experiment, name, folder, lambda event: None, track=False)


def own(run: RunFolder) -> Examples:
    (row,) = run.rows()
    found = examples_of(run, row)
    assert found is not None
    return found


def shared(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.path.glob("examples/*"))


def test_answers_pictures_and_the_teachers_answers_are_kept(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT), tmp_path)
    (row,), found = run.rows(), own(run)
    assert row.warnings == [] and row.teacher is not None and row.teacher.key is not None
    assert found.part == "test" and found.samples == list(range(8)) and isinstance(found.answers, ClassAnswers)
    right = [answer == truth for answer, truth in zip(found.answers.answer, found.answers.truth, strict=True)]
    assert 100 * sum(right) / 8 == row.metrics["test_top1"]
    pictures, taught = pictures_of(run, found.data), examples_of_teacher(run, found.data, row.teacher.key)
    assert pictures is not None and len(pictures.images) == 8 and pictures.classes == ["0", "1", "2", "3"]
    assert taught is not None and isinstance(taught.answers, ClassAnswers)
    assert taught.answers.truth == found.answers.truth
    right = [answer == truth for answer, truth in zip(taught.answers.answer, taught.answers.truth, strict=True)]
    assert 100 * sum(right) / 8 == row.teacher.metrics["test_top1"]
    assert shared(run) == [f"{found.data}-{row.teacher.key}.json", f"{found.data}.json"]


def test_predictions_are_kept_without_images(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT, evaluation={"examples": "predictions"}), tmp_path)
    found = own(run)
    pictures = pictures_of(run, found.data)
    assert found.answers is not None and pictures is not None and pictures.images == [] and pictures.classes


def test_nothing_is_kept_where_nothing_is_wanted(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT, evaluation={"examples": "none"}), tmp_path)
    (row,) = run.rows()
    assert shared(run) == [] and examples_of(run, row) is None


def test_the_validation_set_is_shown_where_no_test_set_is_read(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT, evaluation={"test": "never"}), tmp_path)
    assert own(run).part == "validation"


def test_a_training_has_the_same_bits_and_the_same_name_with_and_without(tiny: Tiny, tmp_path: Path) -> None:
    students = []
    for wanted in ("pictures", "none"):
        experiment = tiny(training={"epochs": 3}, evaluation={"examples": wanted})
        run = trained(experiment, tmp_path, wanted)
        students.append(read_state(run.student_path("0", 1)).state)
        assert run.rows()[0].identity == identity(experiment)
        assert not any("examples" in one for one in run.rows()[0].deviations)
    assert students[0].keys() == students[1].keys()
    assert all(torch.equal(students[0][name], students[1][name]) for name in students[0])


def test_a_task_that_cannot_be_shown_leaves_a_warning_and_no_examples(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> str:
        raise ValueError("no such sample")

    monkeypatch.setattr(kept_examples, "picture", broken)
    run = trained(tiny(**SHORT), tmp_path)
    (row,) = run.rows()
    assert row.status == "done"
    assert row.warnings == [
        "examples: they could not be made for the report (ValueError: no such sample); the training is complete"
    ]
    assert own(run).answers is not None and pictures_of(run, own(run).data) is None


def test_a_damaged_file_is_left_out_with_a_warning(tiny: Tiny, tmp_path: Path) -> None:
    run = trained(tiny(**SHORT), tmp_path)
    (row,) = run.rows()
    path = run.student_path("0", 1).with_name("examples.json")
    path.write_text(path.read_text()[:100])
    with pytest.warns(UserWarning, match=r"examples\.json: is damaged .*; the report leaves the file out"):
        assert examples_of(run, row) is None


def test_breakdowns_of_a_meter_are_kept(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tskd_tune.tasks.classification import TOP1, Accuracy

    parts = Breakdown("size", "top-1 by size", "size", TOP1, ("small", "large"), (12.5, None))
    monkeypatch.setattr(Accuracy, "breakdowns", lambda meter: [parts], raising=False)
    run = trained(tiny(**SHORT, evaluation={"examples": "none"}), tmp_path)
    found = own(run)
    assert found.answers is None and found.breakdowns[0].values == [12.5, None]
    assert found.breakdowns[0].metric == TOP1


def test_a_run_on_an_object_storage_has_them_there(tiny: Tiny, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = local.start(tiny(**SHORT), "far", memory, lambda event: None, track=False)
    (row,), found = run.rows(), own(run)
    assert pictures_of(run, found.data) is not None and run.remote is not None
    names = Objects(run.remote.address).names("")
    assert {f"trainings/{row.identity}-seed1/examples.json", f"examples/{found.data}.json"} <= set(names)
    place = Workplace.of(run.at)
    assert not place.lacks(f"examples/{found.data}.json") and place.lacks("examples/other.json")
