"""Teachers: trained once and kept, waited for, resumed; or read from a checkpoint that is verified."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build, task_of
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import check_weights, is_ready, obtain, teacher_key
from tskd_tune.networks.weights import read_state, write_state
from tskd_tune.training import checkpoint, teachers
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]


def silent(record: dict[str, Any]) -> None:
    pass


def test_a_teacher_is_trained_once_and_concurrent_runs_wait_for_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    epoch = Trainer.epoch
    monkeypatch.setattr(Trainer, "epoch", lambda self: trained.append(1) or epoch(self))
    cache = TeacherCache(tmp_path)
    experiment = tiny(teacher={"training": {"epochs": 2}})
    assert not is_ready(experiment, cache)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(obtain(experiment, cache, silent))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 2 and len(found) == 3 and found[0] == found[1] == found[2]
    assert is_ready(experiment, cache)
    assert found[0].source == "auto"
    assert 0 <= found[0].metrics["test_top1"] <= 100
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".pth"]


def test_a_teacher_depends_on_its_recipe_and_data_and_on_nothing_of_the_student(tiny: Tiny) -> None:
    key = teacher_key(tiny())
    same = [
        tiny(student="resnet14", review=None, distiller="kd", seed=5),
        tiny(training={"lr": 1.0, "epochs": 9, "threads": 2}),
    ]
    assert {teacher_key(experiment) for experiment in same} == {key}
    others = [
        tiny(teacher={"name": "resnet20"}),
        tiny(teacher={"training": {"lr": 0.02}}),
        tiny(teacher={"training": {"seed": 1}}),
        tiny(task={"validation": 4}),
        tiny(task={"batch_size": 4}),
        tiny(task={"data_seed": 1}),
        tiny(training={"precision": "bfloat16"}),
    ]
    assert len({key, *map(teacher_key, others)}) == 1 + len(others)


def test_a_teachers_training_that_was_cut_off_goes_on_where_it_was_saved(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "SAVE_SECONDS", 0.0)
    experiment = tiny(teacher={"training": {"epochs": 4}})
    whole = obtain(experiment, TeacherCache(tmp_path / "whole"), silent)
    cut = TeacherCache(tmp_path / "cut")
    seen: list[int] = []

    def stop_after_two(record: dict[str, Any]) -> None:
        seen.append(record["epoch"])
        if record["epoch"] == 2 and seen.count(2) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(experiment, cut, stop_after_two)
    again = obtain(experiment, cut, stop_after_two)
    assert seen == [0, 1, 2, 2, 3]
    assert whole is not None and again is not None
    first, second = read_state(whole.path).state, read_state(again.path).state
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not list((tmp_path / "cut").glob("*.halfway"))


def test_the_teacher_that_trains_the_student_is_the_one_in_the_file(tiny: Tiny) -> None:
    experiment = tiny()
    teacher = obtain(experiment, TeacherCache(), silent)
    assert teacher is not None
    trainer = build(experiment, teacher)
    assert trainer.teacher is not None
    state = read_state(teacher.path).state
    held = trainer.teacher.state_dict()
    assert all(torch.equal(held[f"network.{key}"], value) for key, value in state.items())


def test_a_finished_student_is_a_teacher_by_its_path_and_is_measured_once(tiny: Tiny, tmp_path: Path) -> None:
    student = build_trainer(tiny(review=None, student="resnet14", training={"epochs": 2}))
    accuracy = [student.epoch().numbers for _ in range(2)][-1]["test_top1"]
    path = tmp_path / "student.pth"
    write_state(path, student.student, facts={"name": "resnet14"})
    experiment = tiny(teacher={"weights": str(path)})
    check_weights(experiment)
    cache = TeacherCache(tmp_path / "cache")
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None
    assert (teacher.source, teacher.metrics) == (str(path), {"test_top1": pytest.approx(accuracy)})
    memo = cache.folder / f"{teacher.key}-{task_of(experiment).fingerprint()[:16]}.measured"
    checkpoint.save({"test_top1": 12.5}, memo)
    again = obtain(experiment, cache, silent)
    assert again is not None and again.metrics == {"test_top1": 12.5}


def test_given_weights_that_are_missing_or_of_another_network_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file .*gone.pth; give the path of a checkpoint, or auto"):
        check_weights(tiny(teacher={"weights": str(tmp_path / "gone.pth")}))
    path = tmp_path / "student.pth"
    write_state(path, build_trainer(tiny(review=None)).student, facts={})
    with pytest.raises(InputError, match="resnet8"):
        check_weights(tiny(teacher={"weights": str(path)}))
    (tmp_path / "broken.pth").write_bytes(b"broken")
    with pytest.raises(InputError, match="broken.pth"):
        check_weights(tiny(teacher={"weights": str(tmp_path / "broken.pth")}))


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="teachers cannot be kept there .*TSKD_TUNE_CACHE"):
        TeacherCache(tmp_path / "file" / "cache")
