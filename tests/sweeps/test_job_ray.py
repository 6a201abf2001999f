"""A sweep as a job of Ray: sent with ``tskd-tune submit``, stopped with SIGTERM, and resumed by another job."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster
from ray.job_submission import JobStatus, JobSubmissionClient
from typer.testing import CliRunner

from tskd_tune.cli.commands import app
from tskd_tune.records.runs.run_folder import RunFolder

pytestmark = pytest.mark.slow

COMPONENT = '''
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import synthetic


def data() -> Task:
    """Random images."""
    return synthetic(batch_size=8, size=16, train=256, validation=8, test=8)
'''
SWEEP = """
experiment:
  task: {name: "mine:data"}
  student: resnet8
  teacher: null
  review: null
  training: {epochs: 20, lr: 0.01, device: cpu, checkpoint: {seconds: 1}}
seeds: [1, 2]
search: {name: grid}
resources: {concurrent: 1}
"""


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The dashboard of a cluster of one machine, whose processes are the test's own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    with socket.create_server(("127.0.0.1", 0)) as free:  # another Ray of this machine may have the usual port
        port = free.getsockname()[1]
    head = {"num_cpus": 2, "include_dashboard": True, "dashboard_agent_listen_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield f"http://{cluster.head_node.webui_url}"
    cluster.shutdown()


def test_a_sweep_is_sent_stopped_and_resumed_as_a_job(dashboard: str, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(COMPONENT)
    (tmp_path / "own" / "sweep.yaml").write_text(SWEEP)
    storage, client = tmp_path / "runs", JobSubmissionClient(dashboard)

    def send(*words: str) -> str:
        found = CliRunner().invoke(app, ["submit", *words])
        assert found.exit_code == 0, found.output
        return found.output.partition(":")[0]

    def until(is_so: Callable[[], bool], number: str) -> None:
        end = time.monotonic() + 1500
        while not is_so():
            assert time.monotonic() < end, client.get_job_logs(number)
            time.sleep(0.5)

    own = [dashboard, "sweep", str(tmp_path / "own" / "sweep.yaml")]
    number = send(*own, "--storage", str(storage), "--name", "first", "--no-wandb")
    until(lambda: len([*storage.glob("first/trainings/*/history.jsonl")]) == 1, number)
    client.stop_job(number)
    until(lambda: client.get_job_status(number).is_terminal(), number)
    logs = client.get_job_logs(number)
    assert client.get_job_status(number) == JobStatus.STOPPED
    assert "joined the Ray cluster at" in logs and "Traceback" not in logs and "*** SIG" not in logs, logs
    assert "interrupted; finished trainings are kept" in logs, logs
    assert (storage / "first" / "report.md").exists()

    number = send(
        "--with", str(tmp_path / "own" / "mine.py"), dashboard, "resume", str(storage / "first"), "--no-wandb"
    )
    until(lambda: client.get_job_status(number).is_terminal(), number)
    assert client.get_job_status(number) == JobStatus.SUCCEEDED, client.get_job_logs(number)
    folder = RunFolder.open(storage / "first")
    assert sorted((row.seed, row.status, row.epochs) for row in folder.rows()) == [(1, "done", 20), (2, "done", 20)]
    assert all(row.cost.host for row in folder.rows())
    assert not [*storage.glob("first/trainings/*/checkpoint*")], "a finished training keeps no checkpoint"
