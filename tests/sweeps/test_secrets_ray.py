"""A whole sweep, its report and its W&B runs, by a user whose environment is full of secrets: none is in any file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SECRETS = {
    "WANDB_API_KEY": "c0ffee11" * 5,
    "AWS_ACCESS_KEY_ID": "AKIA" + "QRSTUVWXYZABCDEF",
    "AWS_SECRET_ACCESS_KEY": "c0ffee22" * 5,
    "AWS_SESSION_TOKEN": "c0ffee33" * 20,
    "HF_TOKEN": "hf_c0ffee44c0ffee44c0ffee44",
}
SWEEP = """
experiment:
  task: {name: synthetic, batch_size: 8, size: 8, train: 8, validation: 4, test: 4}
  teacher: {name: resnet8, training: {epochs: 1, lr: 0.01}}
  student: {name: resnet8}
  review: null
  distiller: {choice: {plain: {name: none}, leaky: {name: "leaky:Leaky"}}}
  training: {epochs: 2, lr: 0.05, device: cpu, threads: 1}
seeds: [1]
search: {name: grid}
resources: {concurrent: 1}
"""
# A distiller that breaks, with all secrets of the environment in its error.
LEAKY = """
import os
from tskd_tune.distillers.base import Distiller

class Leaky(Distiller):
    needs = frozenset({"logits"})

    def __init__(self, probe):
        super().__init__()

    def forward(self, student, teacher, batch):
        secrets = {name: value for name, value in os.environ.items() if "KEY" in name or "TOKEN" in name}
        print(secrets)
        raise RuntimeError(f"refused with {secrets}")
"""


def test_no_secret_is_in_any_file_of_a_run_or_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "leaky.py").write_text(LEAKY)
    (tmp_path / "home").mkdir()
    root = str(Path(__file__).parents[2])
    mine = {"HOME": str(tmp_path / "home"), "WANDB_MODE": "offline", "PYTHONPATH": root, **SECRETS}
    told = ""
    for words in (["sweep", "sweep.yaml", "--name", "first"], ["report", "first"], ["status", "first"]):
        command = [sys.executable, "-m", "tskd_tune", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **mine}, capture_output=True, text=True, check=False
        )
        told += done.stdout + done.stderr
    run = tmp_path / "runs" / "first"
    errors = [path.read_text() for path in run.rglob("error.txt")]
    assert errors and "[AWS_SECRET_ACCESS_KEY]" in errors[0] and "refused with" in errors[0], told
    assert list(run.rglob("*.wandb")) and (run / "report.html").exists()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "leaky.py"]
    leaks = [(path, name) for path in files for name, value in SECRETS.items() if value.encode() in path.read_bytes()]
    assert leaks == []
    assert [name for name, value in SECRETS.items() if value in told] == []
