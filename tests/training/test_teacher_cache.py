"""Whoever needs a teacher that another process trains hears of it, and waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain, teacher_key
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
