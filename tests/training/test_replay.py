"""A replayed teacher: which snapshots are kept, and which of them an epoch sees."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import check_weights, obtain
from tskd_tune.networks.weights import read_state, write_state
from tskd_tune.training import teachers
from tskd_tune.training.replay import Replay, read_trajectory, snapshot_epochs
from tskd_tune.training.teachers import TeacherCache
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
State = Mapping[str, Tensor]


def replayed(epochs: int = 5, count: int = 3) -> dict[str, Any]:
    return {"teacher": {"replay": count, "training": {"epochs": epochs}}}


def silent(record: dict[str, Any]) -> None:
    pass


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def held(trainer: Trainer) -> dict[str, Tensor]:
    assert trainer.teacher is not None
    return {key.removeprefix("network."): value.clone() for key, value in trainer.teacher.state_dict().items()}


def trajectory(experiment: Experiment, cache: TeacherCache) -> list[State]:
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None and teacher.path is not None and experiment.teacher is not None
    return list(read_trajectory(teacher.path, experiment.teacher.replay or 0))


@pytest.mark.parametrize(
    ("epochs", "count", "kept"),
    [(240, 4, [59, 119, 179, 239]), (5, 3, [1, 3, 4]), (3, 3, [0, 1, 2]), (7, 2, [3, 6])],
)
def test_snapshots_are_evenly_spaced_and_the_last_is_the_teacher(epochs: int, count: int, kept: list[int]) -> None:
    assert snapshot_epochs(epochs, count) == kept


@pytest.mark.parametrize(("epochs", "count"), [(6, 3), (7, 3), (10, 10), (240, 7)])
def test_every_snapshot_is_shown_in_order_and_about_as_long(epochs: int, count: int) -> None:
    replay = Replay(nn.Identity(), [{}] * count, epochs)
    seen = [replay.number(epoch) for epoch in range(epochs)]
    assert seen == sorted(seen) and set(seen) == set(range(count))
    lengths = [seen.count(number) for number in range(count)]
    assert max(lengths) - min(lengths) <= 1


def test_the_trajectory_is_what_the_teacher_was_after_those_epochs(tiny: Tiny, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path)
    kept = trajectory(tiny(**replayed()), cache)
    plain = tiny(**{"teacher": {"training": {"epochs": 5}}}).teacher_experiment()
    trainer = build(plain, None)
    seen = []
    for _ in range(5):
        trainer.epoch()
        seen.append({key: value.clone() for key, value in trainer.student.state_dict().items()})
    assert len(kept) == 3
    assert all(equal(seen[epoch], state) for epoch, state in zip((1, 3, 4), kept, strict=True))
    (path,) = tmp_path.glob("*.pth")
    assert equal(read_state(path).state, kept[-1])


@pytest.mark.parametrize("over", [{}, {"teacher": {"batch_norm": "train"}}, {"review": None, "distiller": "kd"}])
def test_every_epoch_sees_exactly_its_snapshot(tiny: Tiny, tmp_path: Path, over: dict[str, Any]) -> None:
    setting = replayed()
    setting["teacher"] |= over.get("teacher", {})
    experiment = tiny(**{**over, **setting, "training": {"epochs": 7}})
    cache = TeacherCache(tmp_path)
    kept = trajectory(experiment, cache)
    trainer = build(experiment, obtain(experiment, cache, silent))
    seen: list[int] = []
    assert trainer.teacher is not None

    def look(module: nn.Module, *_: Any) -> None:
        weights = module.state_dict()
        found = [n for n, state in enumerate(kept) if torch.equal(weights["network.fc.weight"], state["fc.weight"])]
        seen.extend(found)

    trainer.teacher.register_forward_pre_hook(look)
    numbers = []
    while not trainer.finished:
        del seen[:]
        trainer.begin()
        assert equal(held(trainer), kept[[0, 0, 0, 1, 1, 2, 2][trainer.next_epoch]])
        trainer.epoch()
        numbers.append(sorted(set(seen)))
    shown = [[0], [0], [0], [1], [1], [2], [2]]
    reviews = {2, 5}
    asked = [epoch in reviews or experiment.review is None for epoch in range(7)]
    assert numbers == [number if is_asked else [] for number, is_asked in zip(shown, asked, strict=True)]
    assert all(parameter.grad is None for parameter in trainer.teacher.parameters())


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_a_resume_is_exact(tiny: Tiny, norm: str) -> None:
    setting = replayed()
    setting["teacher"]["batch_norm"] = norm
    experiment = tiny(**setting, distiller="kd")
    whole, first, second = build_trainer(experiment), build_trainer(experiment), build_trainer(experiment)
    for _ in range(6):
        whole.epoch()
    for _ in range(3):
        first.epoch()
    assert (first.state_dict()["teacher"] is None) == (norm == "eval"), "what a file holds is not saved again"
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        second.epoch()
    assert equal(whole.student.state_dict(), second.student.state_dict())
    assert equal(held(whole), held(second))
    losses = [[record.numbers["loss"] for record in trainer.history] for trainer in (whole, second)]
    assert losses[0] == losses[1]


def test_a_teacher_that_evolves_teaches_otherwise_than_the_one_that_it_becomes(tiny: Tiny) -> None:
    students = []
    for setting in (replayed(), {"teacher": {"training": {"epochs": 5}}}):
        trainer = build_trainer(tiny(**setting, review=None, distiller="kd", training={"epochs": 3}))
        for _ in range(3):
            trainer.epoch()
        students.append(trainer)
    assert not equal(students[0].student.state_dict(), students[1].student.state_dict())
    assert equal(held(students[0]), held(students[1]))


def test_a_teachers_training_that_was_cut_off_keeps_its_trajectory_whole(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "SAVE_SECONDS", 0.0)
    experiment = tiny(**replayed(6, 3))
    whole = trajectory(experiment, TeacherCache(tmp_path / "whole"))
    cut = TeacherCache(tmp_path / "cut")
    seen: list[int] = []

    def stop_twice(record: dict[str, Any]) -> None:
        seen.append(record["epoch"])
        if record["epoch"] in (2, 3) and seen.count(record["epoch"]) == 1:  # 3 is one that is kept
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            obtain(experiment, cut, stop_twice)
    again = trajectory(experiment, cut) if obtain(experiment, cut, stop_twice) else []
    assert seen == [0, 1, 2, 2, 3, 3, 4, 5]
    assert len(again) == 3 and all(map(equal, whole, again))


def test_a_given_file_is_replayed_if_it_holds_what_is_asked(tiny: Tiny, tmp_path: Path) -> None:
    cache = TeacherCache(tmp_path / "cache")
    experiment = tiny(**replayed())
    kept = trajectory(experiment, cache)
    (path,) = cache.folder.glob("*.pth")
    given = tiny(teacher={"weights": str(path), "replay": 3})
    check_weights(given)
    trainer = build(given, obtain(given, cache, silent))
    trainer.begin()
    assert equal(held(trainer), kept[0])

    with pytest.raises(InputError, match="teacher.replay: .* holds 3 snapshots of its training, not 4; set replay: 3"):
        check_weights(tiny(teacher={"weights": str(path), "replay": 4}))
    bare = tmp_path / "bare.pth"
    write_state(bare, trainer.teacher.network, facts={})
    with pytest.raises(InputError, match="bare.pth holds 0 snapshots .* not 2; leave replay out, or set weights: auto"):
        check_weights(tiny(teacher={"weights": str(bare), "replay": 2}))
    other = tmp_path / "other.pth"
    write_state(other, trainer.teacher.network, facts={"trajectory": [dict(trainer.student.state_dict())] * 2})
    with pytest.raises(InputError, match="other.pth holds snapshots of another network"):
        check_weights(tiny(teacher={"weights": str(other), "replay": 2}))
