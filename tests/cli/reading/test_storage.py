"""Runs on a local mock of S3, through the command line: trained, killed, gone on with elsewhere, and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from factories import a_group
from tskd_tune.cli import app
from tskd_tune.cli.reading.results import show_results
from tskd_tune.cli.reading.run_status import run_status
from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.storage.objects import Objects

SWEEP = """
experiment:
  task: {name: synthetic, batch_size: 8, size: 8, train: 64, validation: 8, test: 8}
  teacher: {name: resnet14, training: {epochs: 1, lr: 0.01}}
  student: resnet8
  review: {k: 2, delta: 1, extractor: {name: conv_lstm, hidden: 2}}
  training: {epochs: 40, lr: 0.05, device: cpu, checkpoint: {seconds: 0.5}}
  choice: {plain: {review: null}, tskd: {}}
search: {name: grid}
seeds: [1, 2]
resources: {cpu: 1, concurrent: 2}
"""


class Machine:
    """A machine with a home, a cache and a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "sweep.yaml").write_text(SWEEP)

    def environment(self) -> Mapping[str, str]:
        own = {"HOME": str(self.folder), "TSKD_TUNE_CACHE": str(self.folder / "cache"), "WANDB_MODE": "offline"}
        return {**os.environ, **own}

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tskd_tune", *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(), text=True, stdout=pipe, stderr=pipe)

    def call(self, *arguments: str, code: int = 0) -> str:
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=1500)
        assert process.returncode == code, err + out
        return out if code == 0 else err


def results(text: str) -> dict[str, tuple[Any, Any]]:
    """Return the arms of a report with the means of all that was measured, to the last digit, and the seeds."""
    return {arm["arm"]: (arm["metrics"], arm["seeds"]) for arm in json.loads(text)["arms"]}


def test_a_group_of_replicates_is_reported_from_the_storage(s3: Address) -> None:
    a_group(s3, "s", [[70.0, 71.0], [72.0, 69.0]])
    result = CliRunner().invoke(app, ["report", "s", "--storage", str(s3)])
    assert result.exit_code == 0, result.output
    assert "Replicates: s-1, s-2." in result.stdout and "n = 2: 71.50 % (" in result.stdout
    result = CliRunner().invoke(app, ["status", f"{s3}/s"])
    assert result.exit_code == 2 and f"no run '{s3}/s': it is a group of 2 replicates" in result.stderr


def test_rows_are_said_to_be_on_the_storage_only_if_they_are(
    memory: Address, capsys: pytest.CaptureFixture[str]
) -> None:
    """The readable copy is written when a driver ends; after a SIGKILL it is missing, or has only the rows before."""
    (folder,) = a_group(memory, "s", [[70.0, 71.0]])
    show_results(folder)
    assert f"rows: {memory}/s-1/rows.jsonl\n" in capsys.readouterr().out
    objects = Objects(memory / "s-1")
    for left in (b"{}\n", None):
        objects.delete("rows.jsonl") if left is None else objects.write("rows.jsonl", left)
        show_results(folder)
        said = (
            f"rows: {folder.rows_path} (of this machine; {memory}/s-1/rows.jsonl is written when a process that trains"
        )
        assert said in capsys.readouterr().out and len(folder.rows_path.read_text().splitlines()) == 4


@pytest.mark.slow
def test_a_killed_sweep_goes_on_on_another_machine(s3: Address, tmp_path: Path) -> None:
    first, second, third = (Machine(tmp_path / name) for name in ("first", "second", "third"))
    run = str(s3 / "run")
    process = first.begin("sweep", "sweep.yaml", "--name", "run", "--storage", str(s3))
    try:
        # Looked at from this process: a command needs seconds to start, in which a sweep as short as this one ends.
        objects = Objects(s3 / "run")
        _until(lambda: objects.read("state.json") is not None, process)
        _until(lambda: bool(RunFolder.open(s3 / "run").rows()), process)
        watched = RunFolder.open(s3 / "run")
        with pytest.raises(InputError, match="trains this run; it wrote to the storage"), watched.alone():
            pass
        status = run_status(watched)
        assert status.running is True and len(watched.rows()) in (1, 2, 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    told = second.call("resume", run)
    assert f"report: {run}/report.html" in told and f"tskd-tune sync {run}" in told
    first.call("sweep", "sweep.yaml", "--name", "here", "--storage", "runs")
    whole = results(first.call("report", "here", "--json"))
    assert results(third.call("report", run, "--json")) == whole and len(whole) == 2
    third.call("export", run, "tskd", "student.pth", "--seed", "2")
    assert (third.folder / "student.pth").stat().st_size > 10_000
    assert "is finished, nothing is left to train" in third.call("resume", "run", "--storage", str(s3))
    assert " run " in third.call("runs", "--storage", str(s3))
    status = json.loads(third.call("status", run, "--json"))
    assert status["finished"] and status["running"] is False and status["trials"]["done"] == 4


def _until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 1500
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "no training has ended"
        time.sleep(0.5)
