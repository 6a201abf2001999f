"""Six ways to break a trial, in one sweep: each is told with arm, seed and reason, and a resume completes the table.

Also what a resume makes of Ray Tune's own files when they are damaged.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import factories
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
COMPONENT = '''
"""A distiller that breaks in its second epoch as its option says, until the file `mended` lies beside it."""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from tskd_tune.distillers.base import Distiller, Need

MENDED = Path(__file__).with_name("mended")
WORKER = "default_worker" in sys.argv[0]


class Breaks(Distiller):
    needs = frozenset({Need.LOGITS})

    def __init__(self, probe=None, *, how: Literal["memory", "raise", "exit", "kill", "nan", "import", "not"] = "not"):
        super().__init__()
        self.how, self.epoch = how, 0
        if how == "import" and WORKER and not MENDED.exists():
            importlib.import_module("only_on_the_laptop")

    def begin_epoch(self, epoch, random):
        self.epoch = epoch

    def forward(self, student, teacher, batch):
        loss = (student.logits - teacher.logits).square().mean()
        if self.epoch == 1 and self.how == "nan":
            return {"breaks": loss * float("nan")}
        if self.epoch == 1 and not MENDED.exists():
            self._break()
        return {"breaks": loss}

    def _break(self):
        if self.how == "memory":
            raise MemoryError
        if self.how == "raise":
            raise RuntimeError("boom in the distiller")
        if self.how == "exit":
            os._exit(3)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
'''
REASONS = {
    "how=memory": "MemoryError",
    "how=raise": "RuntimeError: boom in the distiller",
    "how=exit": "the worker process died without a message",
    "how=kill": "the worker process died without a message",
    "how=nan": "the loss is not finite",
    "how=import": "No module named 'only_on_the_laptop'",
}
# How many epochs a row may tell of; a process that is lost takes with it the short epochs that it has not reported.
EPOCHS = {"how=import": (0,), "how=memory": (0, 1), "how=exit": (0, 1), "how=kill": (0, 1)}


def sweep_in(folder: Path, tiny: dict[str, Any], ways: list[str], **over: Any) -> None:
    (folder / "breaks.py").write_text(COMPONENT)
    distiller = {"name": "breaks:Breaks", "how": {"grid": ways}}
    training = {**tiny["training"], "epochs": 3}
    experiment = {**tiny, "review": None, "training": training, "distiller": distiller}
    plain = {"experiment": experiment, "seeds": [1, 2], "search": {"name": "grid"}, "max_failures": 1, **over}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plain))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [*TSKD_TUNE, *command], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


def trained(folder: RunFolder) -> dict[tuple[str, int], Row]:
    return {(row.arm, row.seed): row for row in folder.rows()}


@pytest.mark.long
def test_six_ways_to_break_are_told_everywhere_and_a_resume_completes_the_table(
    tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    ways = [arm.removeprefix("how=") for arm in REASONS]
    sweep_in(tmp_path, tiny_document, ways)
    done = run(tmp_path, "sweep", "sweep.yaml", "--name", "run", "--no-wandb")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr and "raylet" not in done.stdout + done.stderr
    told = done.stderr.splitlines()
    folder = RunFolder.open(tmp_path / "runs" / "run")
    rows = trained(folder)
    assert rows.keys() == {(arm, seed) for arm in REASONS for seed in (1, 2)}
    forms = {
        "report": run(tmp_path, "report", "run").stdout,
        "page": (folder.path / "report.html").read_text(),
        "status": run(tmp_path, "status", "run").stdout,
    }
    found = json.loads(run(tmp_path, "report", "run", "--json").stdout)
    standing = json.loads(run(tmp_path, "status", "run", "--json").stdout)
    lines = list(
        csv.DictReader(io.StringIO(run(tmp_path, "report", "run", "--format", "csv", "--what", "runs").stdout))
    )
    for (arm, seed), row in rows.items():
        assert row.status == "failed" and REASONS[arm] in (row.reason or ""), (arm, row.reason)
        assert row.broke == (arm != "how=nan") and row.epochs in EPOCHS.get(arm, (1,))
        assert not row.broke or (folder.path / (row.error or "")).stat().st_size > 0
        assert sum(f"{arm}, seed {seed}: " in line and REASONS[arm] in line for line in told) == 1
        for name, text in forms.items():
            plain = text.replace("&#39;", "'").replace("\\", "")
            assert any(
                arm in line and f"seed {seed} " in line and REASONS[arm] in line for line in plain.splitlines()
            ), (
                name,
                arm,
                seed,
            )
        assert any(
            arm == end["arm"] and seed in end["seeds"] and REASONS[arm] in end["reason"] for end in found["failed"]
        )
        failures = [trial for trial in standing["failures"] if trial["arm"] == arm and seed in trial["seeds"]]
        assert len(failures) == 1 and REASONS[arm] in failures[0]["reason"]
        (line,) = [line for line in lines if (line["arm"], line["seed"]) == (arm, str(seed))]
        assert line["status"] == "failed" and REASONS[arm] in line["reason"]

    (tmp_path / "mended").touch()
    damage(folder.path / "trials")
    done = run(tmp_path, "resume", "run", "--no-wandb")
    assert done.returncode == 1, "two diverged for good"
    again = trained(folder)
    assert again.keys() == rows.keys() and not any(row.broke for row in again.values())
    for (arm, seed), row in again.items():
        assert row.run == rows[arm, seed].run, "a trial that is tried again goes on in its folder"
        assert (row.status, row.epochs) == (("failed", 1) if arm == "how=nan" else ("done", 3))
        if arm != "how=nan":
            assert [line.epoch for line in folder.history(row.run)] == [0, 1, 2]
    # The mended arms are one and the same training, wherever they were cut off.
    losses = {again[arm, 1].metrics["test_loss"] for arm in REASONS if arm != "how=nan"}
    assert len(losses) == 1
    assert "broke" not in run(tmp_path, "status", "run").stdout


def damage(trials: Path) -> None:
    """Flip a byte, cut or remove each of Tune's own files."""
    chance = random.Random(0)
    files = [path for path in sorted(trials.iterdir()) if path.is_file()]
    assert files
    for place, path in enumerate(files):
        content = bytearray(path.read_bytes())
        if place % 3 == 0 and content:
            content[chance.randrange(len(content))] ^= 0x55
        path.write_bytes(bytes(content[: len(content) // 2]) if place % 3 == 1 else bytes(content))
        if place % 3 == 2:
            path.unlink()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_search_goes_on_from_its_own_records_whatever_became_of_tunes_files(
    damaged: bool, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    search = {"name": "optuna", "trials": 4, "startup_trials": 2, "metric": "val_loss", "mode": "min"}
    over = {"search": search, "seeds": [1], "resources": {"cpu": 1, "concurrent": 1}}
    sweep_in(tmp_path, tiny_document, ["not"], **over)
    plain = yaml.safe_load((tmp_path / "sweep.yaml").read_text())
    plain["experiment"] |= {"distiller": {"name": "none"}}
    plain["experiment"]["training"]["lr"] = {"loguniform": [0.001, 0.1]}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(plain))
    assert run(tmp_path, "sweep", "sweep.yaml", "--name", "run", "--no-wandb").returncode == 0
    folder = RunFolder.open(tmp_path / "runs" / "run")
    before = {row.run: row for row in folder.rows()}
    lost = max(before)
    factories.write_rows(folder, [row for row in before.values() if row.run != lost])
    if damaged:
        damage(folder.path / "trials")
    done = run(tmp_path, "resume", "run", "--no-wandb")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {row.run: row for row in folder.rows()}
    assert after.keys() == before.keys()
    assert (
        after[lost].point == before[lost].point and after[lost].metrics["val_loss"] == before[lost].metrics["val_loss"]
    )
    assert all(after[number] == before[number] for number in before if number != lost)
