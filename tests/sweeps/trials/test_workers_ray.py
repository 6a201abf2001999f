"""Trials of two workers, which are two processes of Ray: their rows are those of one worker, also after a kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.records.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow
TSKD_TUNE = [sys.executable, "-c", "from tskd_tune.cli import main; main()"]
COMPONENT = '''
"""A distiller whose second epoch ends badly, once, as its option says: in worker 1 alone, or in every worker."""

import os
import signal
from pathlib import Path
from typing import Literal

from tskd_tune.distillers.base import Distiller, Need

KILLED = Path(__file__).with_name("killed")


class Ends(Distiller):
    needs = frozenset({Need.LOGITS})
    separable = True

    def __init__(self, probe=None, *, how: Literal["not", "raise", "raise_in_one", "kill"] = "not"):
        super().__init__()
        self.how, self.epoch = how, 0

    def begin_epoch(self, epoch, random):
        self.epoch = epoch

    def forward(self, student, teacher, batch):
        loss = (student.logits - teacher.logits).square().mean()
        is_first = "Worker.train" not in Path("/proc/self/cmdline").read_text()
        if self.epoch == 1 and self.how == "raise" or self.how == "raise_in_one" and not is_first:
            raise RuntimeError("boom in the distiller")
        if self.epoch == 1 and self.how == "kill" and not is_first and not KILLED.exists():
            KILLED.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"ends": loss}
'''


def test_a_trial_of_two_workers_survives_one_and_has_the_row_of_one_worker(
    tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "ends.py").write_text(COMPONENT)
    distiller = {"name": "ends:Ends", "how": {"grid": ["raise_in_one", "raise", "kill", "not"]}}
    training = {**tiny_document["training"], "epochs": 3, "checkpoint": {"seconds": 0}}
    experiment = {**tiny_document, "training": training, "distiller": distiller}
    resources = {"workers": 2, "gpu": 0, "concurrent": 1}
    plain = {"experiment": experiment, "seeds": [1], "search": {"name": "grid"}, "max_failures": 1}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**plain, "resources": resources}))
    done = run(tmp_path, "sweep", "sweep.yaml", "--name", "run", "--no-wandb")
    assert done.returncode == 1, done.stdout + done.stderr
    folder = RunFolder.open(tmp_path / "runs" / "run")
    rows = {row.arm: row for row in folder.rows()}
    for arm in ("how=raise", "how=raise_in_one"):
        assert rows[arm].broke and "boom in the distiller" in (rows[arm].reason or ""), rows[arm].reason
    assert (tmp_path / "killed").exists()
    calm, killed = rows["how=not"], rows["how=kill"]
    for row in (calm, killed):
        assert row.status == "done" and row.epochs == 3, row.reason
        assert row.engine.name == "parallel" and row.cost.workers == 2
    assert killed.metrics == calm.metrics
    assert [line.epoch for line in folder.history(killed.run)] == [0, 1, 2]
    students = [torch.load(file, weights_only=True) for file in sorted(folder.path.glob("trainings/*/student.pth"))]
    first, second = (student["model"] for student in students)
    assert all(torch.equal(first[name], second[name]) for name in first)

    alone = build_trainer(Experiment.read(calm.experiment))
    while not alone.finished:
        alone.epoch()
    # In float32: for another size of a share, the CPU chooses another algorithm of convolution.
    assert calm.metrics["test_loss"] == pytest.approx(alone.history[-1].numbers["test_loss"], rel=0.02)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [*TSKD_TUNE, *command], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
