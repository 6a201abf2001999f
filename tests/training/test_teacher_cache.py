"""Whoever needs a teacher that another process trains hears of it, and waits; a damaged teacher is trained again."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import is_ready, obtain, teacher_key
from tskd_tune.networks import build
from tskd_tune.networks.weights import read_state, write_state
from tskd_tune.training import teachers
from tskd_tune.training.teachers import TeacherCache


def test_waiting_for_another_process_is_heard(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment, cache = tiny(), TeacherCache(tmp_path)
    heard: list[Any] = []
    waits = threading.Event()

    def hear(record: Any) -> None:
        heard.append(record)
        waits.set()

    other = FileLock(tmp_path / f"{teacher_key(experiment)}.lock", thread_local=False)
    other.acquire()
    worker = threading.Thread(target=lambda: obtain(experiment, cache, hear), daemon=True)
    worker.start()
    assert waits.wait(30) and heard == [None]
    other.release()
    worker.join(60)
    assert [record["epoch"] for record in heard[1:]] == [0], "then it trains what nobody did"
    assert cache.path(teacher_key(experiment)).exists()


def test_nothing_is_heard_of_waiting_where_nobody_else_trains(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    obtain(tiny(), TeacherCache(tmp_path), heard.append)
    assert None not in heard and len(heard) == 1


Tiny = Callable[..., Experiment]


def silent(record: Any) -> None:
    pass


def flipped(content: bytes) -> bytes:
    """Flip a bit in the middle of the file, which lies in a weight."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def of_another_network(content: bytes) -> bytes:
    file = io.BytesIO()
    torch.save({"model": build("resnet8", classes=4).state_dict()}, file)
    return file.getvalue()


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "flipped": (flipped, r"cannot be used \(is damaged: the checksum of its part"),
    "cut off": (lambda content: content[: len(content) // 2], r"cannot be used \(is damaged: it ends too early"),
    "empty": (lambda content: b"", r"cannot be used \(is empty \(0 bytes\)"),
    "a page": (lambda content: b"<html>", r"cannot be used \(is a web page"),
    "another network": (of_another_network, r"cannot be used \(layer1.1.conv1.weight is missing, which resnet14"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_teacher_is_made_anew_with_a_sentence(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    experiment, cache = tiny(), TeacherCache(tmp_path)
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None and teacher.path is not None
    whole = read_state(teacher.path).state
    damage, sentence = DAMAGES[kind]
    teacher.path.write_bytes(damage(teacher.path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{sentence}.*; the teacher is trained again"):
        assert not is_ready(experiment, cache)
    with pytest.warns(UserWarning, match="the teacher is trained again"):
        again = obtain(experiment, cache, silent)
    assert again == teacher and is_ready(experiment, cache)
    state = read_state(teacher.path).state
    assert all(torch.equal(state[key], whole[key]) for key in whole)
    build_trainer(experiment)


def test_a_whole_teacher_gives_no_warning(tiny: Tiny, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    experiment, cache = tiny(), TeacherCache(tmp_path)
    assert obtain(experiment, cache, silent) == obtain(experiment, cache, silent)
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


def test_a_teacher_without_the_snapshots_that_its_replay_needs_is_made_anew(tiny: Tiny, tmp_path: Path) -> None:
    experiment, cache = tiny(teacher={"replay": 2, "training": {"epochs": 2}}), TeacherCache(tmp_path)
    teacher = obtain(experiment, cache, silent)
    assert teacher is not None and teacher.path is not None
    file = torch.load(teacher.path, weights_only=True)
    torch.save({**file, "trajectory": file["trajectory"][:1]}, teacher.path)
    with pytest.warns(UserWarning, match=r"holds 1 snapshots of its training, not 2\); the teacher is trained again"):
        obtain(experiment, cache, silent)
    assert is_ready(experiment, cache)


@pytest.mark.parametrize(
    ("kind", "anew"),
    [("flipped", True), ("cut off", False), ("empty", True), ("another network", True), ("another network", False)],
)
def test_a_damaged_halfway_state_is_left_for_an_older_one_or_a_new_beginning(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, anew: bool
) -> None:
    monkeypatch.setattr(teachers, "SAVE_SECONDS", 0.0)
    experiment = tiny(teacher={"training": {"epochs": 3}})
    whole = obtain(experiment, TeacherCache(tmp_path / "whole"), silent)
    cut, seen = TeacherCache(tmp_path / "cut"), []

    def stop_at_two(record: Any) -> None:
        seen.append(record["epoch"])
        if seen == [0, 1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(experiment, cut, stop_at_two)
    saved = sorted(cut.folder.glob("*.halfway"))
    assert len(saved) == 2, "the last one, and the one before"
    for halfway in [path for path in saved if anew or "older" not in path.name]:
        halfway.write_bytes(DAMAGES[kind][0](halfway.read_bytes()))
    with pytest.warns(UserWarning, match=r"\.halfway: .*; it is left out"):
        again = obtain(experiment, cut, stop_at_two)
    assert seen == [0, 1, 2, *range(0 if anew else 1, 3)]
    assert not list(cut.folder.glob("*.halfway"))
    assert whole is not None and again is not None and whole.path is not None and again.path is not None
    first, second = read_state(whole.path).state, read_state(again.path).state
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_damaged_measurement_of_given_weights_is_made_anew(tiny: Tiny, tmp_path: Path) -> None:
    write_state(tmp_path / "given.pth", build("resnet14", classes=4), facts={})
    experiment, cache = tiny(teacher={"weights": str(tmp_path / "given.pth")}), TeacherCache(tmp_path / "cache")
    teacher = obtain(experiment, cache, silent)
    memos = sorted(cache.folder.glob("*.measured"))
    assert len(memos) == 2, "of the validation set and of the test set"
    for memo in memos:
        for content in (b"", flipped(memo.read_bytes()), b"PK\x03\x04"):
            memo.write_bytes(content)
            with pytest.warns(UserWarning, match="the kept metric is damaged; the teacher is measured again"):
                assert obtain(experiment, cache, silent) == teacher
