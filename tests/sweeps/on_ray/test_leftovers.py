"""What a killed driver leaves on a machine is ended by the next driver of the same run, and of no other run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tskd_tune.records.entries.events import Event
from tskd_tune.sweeps.on_ray import leftovers
from tskd_tune.sweeps.trials import placing
from tskd_tune.training.teachers import TeacherCache, TeacherFile

HOLDS = "import sys, time; file = open(sys.argv[1], 'w'); print('open', flush=True); time.sleep(60)"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def worker(base: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a file of Ray's folder open, and that no command line tells."""
    folder = base / "ray-abc"
    (folder / "logs").mkdir(parents=True)
    words = [sys.executable, "-c", f"import os; os.chdir({str(folder)!r}); {HOLDS}", "logs/worker.out"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        yield process
        process.kill()


def owned_by(base: Path, run: Path, pid: int, began: float) -> None:
    (base / "ray-abc" / leftovers.OWNER).write_text(json.dumps({"run": str(run), "pid": pid, "began": began}))


def test_the_workers_of_a_killed_driver_are_ended_and_it_is_said(
    base: Path, worker: subprocess.Popen[str], tmp_path: Path
) -> None:
    heard: list[Event] = []
    run, me = tmp_path / "run", psutil.Process()
    for other, pid, began in (
        (tmp_path / "other", 2**22 - 1, 0.0),
        (run, me.pid, me.create_time()),  # this driver lives
    ):
        owned_by(base, other, pid, began)
        leftovers.end(run, [str(base)], heard.append)
        assert worker.poll() is None and not heard and (base / "ray-abc").exists()
    owned_by(base, run, me.pid, me.create_time() - 1000)  # the number belongs to another process now
    leftovers.end(run, [str(base), str(base)], heard.append)
    assert not psutil.pid_exists(worker.pid) and not (base / "ray-abc").exists()
    assert [event.reason for event in heard] == [
        "an earlier driver of this run was killed; ended 1 process of it that still held memory"
    ]


def test_a_damaged_note_ends_nothing(base: Path, worker: subprocess.Popen[str], tmp_path: Path) -> None:
    for text in ("", "[]", "{}", '{"run": 1, "pid": null}'):
        (base / "ray-abc" / leftovers.OWNER).write_text(text)
        leftovers.end(tmp_path / "run", [str(base), str(tmp_path / "none")], lambda event: None)
    assert worker.poll() is None


def test_a_folder_of_ray_says_whose_it_is(base: Path, tmp_path: Path) -> None:
    (base / "ray-abc").mkdir()
    leftovers.own(base / "ray-abc", tmp_path / "run")
    assert list(leftovers._left(tmp_path / "run", [str(base)])) == [], "its driver, this process, lives"
    facts = json.loads((base / "ray-abc" / leftovers.OWNER).read_text())
    assert facts["run"] == str(tmp_path / "run") and leftovers._lives(facts["pid"], facts["began"])


def test_a_teacher_is_written_once_a_machine_and_compared_once_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    write = placing.write_whole
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(placing, "_known", set())
    monkeypatch.setattr(placing, "write_whole", lambda path, content: (written.append(path), write(path, content)))
    teacher = TeacherFile("resnet8", "auto", tmp_path / "gone.pth", "key", 10)
    for _ in range(3):
        assert placing.placed(teacher, b"content").path == TeacherCache().path("key")
    assert written == [TeacherCache().path("key")] and written[0].read_bytes() == b"content"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: pytest.fail("it was compared before"))
        placing.placed(teacher, b"content")
    assert placing.placed(teacher, b"another").path == written[0] and written[0].read_bytes() == b"another"
    written[0].unlink()
    assert placing.placed(teacher, b"another").path is not None and len(written) == 3
    (tmp_path / "here.pth").write_bytes(b"content")
    here = TeacherFile("resnet8", "auto", tmp_path / "here.pth", "key", 10)
    assert placing.placed(here, b"content") is here
