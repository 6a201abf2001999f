"""A laboratory's cluster for tests: a client, a head and two workers, and the commands that its user gives."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hosts import ROOT, SHARED, Host, Network, until

HERE = Path(__file__).parent
FILE = "cluster.local.yaml"
STORAGE = f"{SHARED}/runs"
DASHBOARD = "http://127.0.0.1:8265"
CONNECT = "exec 3<> /dev/tcp/127.0.0.1/8265"
RUN = "first"
ROW = ("identity", "status", "epochs", "metrics", "best", "plan", "lambda")
TIMES = {"seconds", "eval_seconds", "time"}
# In place of uv, because the hosts have no way to the Internet: what is installed here is installed on the hosts, and
# `uv pip install` lets Python find the package in the folder.
UV = """#!/bin/bash
[ "$1 $2" = "pip install" ] || exit 0
source=${*: -1}
echo "export PYTHONPATH=${source#*file://}" >> ~/.bashrc
"""


class Laboratory:
    """The hosts of a laboratory. The client is the user's own machine; each worker has one simulated GPU.

    Attributes:
        client, head, workers: the hosts.
        share: the folder that all hosts share, as this machine sees it.
        seconds: what was measured: name -> seconds.
    """

    def __init__(self, network: Network) -> None:
        """Start the hosts, and write the file of the cluster."""
        self.share = network.share
        self.client, self.head = network.host("client"), network.host("head")
        self.workers = [network.host("worker1"), network.host("worker2")]
        self.seconds: dict[str, float] = {}
        for host in (self.head, *self.workers):
            _provide_uv(host)
        for worker in self.workers:
            _simulate_gpu(worker)
        for name in ("pace.py", "sweep.yaml"):
            shutil.copy(HERE / name, self.client.home)
        answers = ["--provider", "local", "--head", self.head.address, "--ssh-user", "root"]
        answers += ["--ssh-key", "~/.ssh/id_ed25519", "--storage", STORAGE]
        for worker in self.workers:
            answers += ["--worker", worker.address]
        self.client.run(f"tskd-tune cluster init {shlex.join(answers)}")

    def up(self) -> None:
        """Start the cluster, and wait for the workers."""
        self.client.run(f"ray up -y --no-config-cache {FILE}")
        for worker in self.workers:
            until(lambda: worker.processes("raylet"), f"Ray on {worker.name}", 0.5)  # noqa: B023

    def submit(self, *words: str, more: str = "") -> None:
        """Send a command to the cluster as a job, as the user does: a tunnel to the dashboard, then `submit`."""
        self.client.begin(f"ray dashboard {FILE}")
        until(lambda: self.client.run(CONNECT, check=False).returncode == 0, "the tunnel to the dashboard", 0.5)
        said = self.client.run(f"tskd-tune submit {more} {DASHBOARD} {shlex.join(words)}").stdout
        assert "this machine may sleep or leave" in said, said

    def told(self) -> str:
        """Return what was measured, and the end of what the jobs wrote."""
        logs = self.head.run("tail -n 25 /tmp/ray/session_latest/logs/job-driver-*.log", check=False).stdout
        return "\n".join([*(f"{name}: {seconds:.1f} s" for name, seconds in self.seconds.items()), logs])

    @property
    def run(self) -> Path:
        """The folder of the sweep, as this machine sees it."""
        return self.share / "runs" / RUN

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines of the sweep's rows."""
        return rows_of(self.run)

    def unfinished(self) -> set[str]:
        """Return the trainings that began and have no row, as the names of their folders; at the end none is left."""
        ended = {f"{row['identity']}-seed{row['seed']}" for row in self.rows()}
        return {folder.name for folder in (self.run / "trainings").glob("*")} - ended

    def trains(self, worker: Host) -> bool:
        """Tell whether a worker trains now."""
        return self._at(worker).endswith("trains")

    def waits(self, worker: Host) -> bool:
        """Tell whether a training waits on a worker in the middle of an epoch; see `pace`."""
        return self._at(worker).endswith("waits")

    def _at(self, worker: Host) -> str:
        file = self.share / f"at-{worker.name}"
        return file.read_text() if file.exists() and time.time() - file.stat().st_mtime < 2 else ""


def facts(run: Path) -> dict[tuple[object, object], object]:
    """Return what rows, histories and students of a run say, without times and machines, by arm and seed.

    Raises:
        AssertionError: a training has two rows.
    """
    found = dict[tuple[object, object], object]()
    for row in rows_of(run):
        training = row["arm"], row["seed"]
        assert training not in found, f"{training} has two rows"
        found[training] = {key: row[key] for key in ROW} | _left_by(
            run / f"trainings/{row['identity']}-seed{row['seed']}"
        )
    return found


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's rows."""
    file = run / "rows.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _left_by(folder: Path) -> dict[str, object]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    history = {line["epoch"]: {key: line[key] for key in line.keys() - TIMES} for line in lines}
    student = hashlib.sha256((folder / "student.pth").read_bytes()).hexdigest()
    return {"history": history, "student": student}


def calm_run(folder: Path) -> subprocess.Popen[bytes]:
    """Begin the same sweep on this machine, one run after another, without pauses in the trainings.

    Its Ray has one core, so the teacher is trained with as many threads as on the cluster.
    """
    command = [sys.executable, "-m", "tskd_tune", "sweep", str(HERE / "sweep.yaml"), "--name", RUN, "--no-wandb"]
    for setting in ("experiment.observe=[]", "resources.gpu=null", "resources.concurrent=1"):
        command += ["--set", setting]
    env = {**os.environ, "TSKD_TUNE_CACHE": str(folder / "cache"), "RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*command, "--storage", str(folder)], cwd=ROOT, env=env, stdout=log, stderr=log)


def _provide_uv(host: Host) -> None:
    program = host.home / ".uv/bin/uv"
    program.parent.mkdir(parents=True)
    program.write_text(UV)
    program.chmod(0o755)
    (host.home / "tskd-tune").symlink_to(sys.prefix)


def _simulate_gpu(host: Host) -> None:
    with (host.home / ".bashrc").open("a") as file:
        file.write("""export RAY_OVERRIDE_RESOURCES='{"CPU": 2, "GPU": 1}'\n""")
