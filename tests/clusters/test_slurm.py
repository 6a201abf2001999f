"""The job script for SLURM, run by a SLURM of the test's own: SIGTERM ends a turn, and the next turn goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tskd_tune.clusters.templates import SLURM, template
from tskd_tune.records.runs.run_folder import RunFolder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SWEEP = """
experiment:
  task: {name: synthetic, batch_size: 8, size: 8, train: 64, validation: 8, test: 8}
  teacher: {name: resnet8, training: {epochs: 1, lr: 0.01}}
  student: {name: resnet8}
  review: {choice: {none: null, tskd: {k: 1, delta: 1, extractor: {name: linear}}}}
  training: {epochs: 12, lr: 0.05, device: cpu, threads: 1, checkpoint: {seconds: 0}}
seeds: [1]
search: {name: grid}
resources: {concurrent: 1}
"""


def test_the_script_is_valid_for_bash_and_asks_for_a_signal_and_another_turn() -> None:
    done = subprocess.run(["bash", "-n", ROOT / SLURM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    asked = re.findall(r"^#SBATCH (.*)$", template(SLURM), re.MULTILINE)
    assert {"--signal=B:TERM@120", "--requeue", "--open-mode=append"} <= set(asked)
    assert os.access(ROOT / SLURM, os.X_OK)


def needs_slurm() -> None:
    missing = [name for name in ("unshare", "slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found; Debian's slurmctld, slurmd, slurm-client and munge have them")
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("only root may start a SLURM in namespaces of its own")


@pytest.mark.slow
def test_a_turn_that_is_ended_goes_on_in_the_next_one(tmp_path: Path) -> None:
    needs_slurm()
    # A machine of the test has no GPU and fewer cores.
    lines = [line for line in template(SLURM).splitlines() if "gpus-per-node" not in line]
    (tmp_path / "job.sh").write_text("\n".join(lines).replace("--cpus-per-task=8", "--cpus-per-task=2") + "\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    run = tmp_path / "runs" / "first"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    (tmp_path / "home").mkdir()
    clean |= {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path / "home"),
        "TSKD_TUNE_SWEEP": str(tmp_path / "sweep.yaml"),
        "TSKD_TUNE_RUN": str(run),
    }
    words = ["bash", HERE / "slurm_here.sh", tmp_path / "slurm", "bash", HERE / "slurm_inside.sh", tmp_path / "job.sh"]
    done = subprocess.run(
        [*words, run], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=1500, check=False
    )
    [log] = [path.read_text() for path in tmp_path.glob("tskd-tune-*.out")]
    told = done.stdout + done.stderr + log
    assert "JobState=COMPLETED" in done.stdout and "Restarts=1" in done.stdout, told
    assert "the sweep continues in the next turn (1 of 50)" in log, told
    assert "going on after" in log, told
    rows = RunFolder.open(run).rows()
    assert [(row.status, row.epochs) for row in rows] == [("done", 12)] * 2
    assert len((run / "sittings.jsonl").read_text().splitlines()) == 4  # begun and ended, twice
    assert (tmp_path / "home" / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
