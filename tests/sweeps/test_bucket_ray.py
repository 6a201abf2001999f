"""Machines that share only a bucket: one is lost, another one comes, and the rows are those of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.cluster_utils import Cluster

from tskd_tune.networks.weights import read_state
from tskd_tune.paths import Address
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.on_ray import ray_private
from tskd_tune.sweeps.on_ray.ray_address import addressed
from tskd_tune.sweeps.run import start

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(s3: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose head runs no trial; its machines reach the bucket, and each has a cache of its own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("TSKD_TUNE_CACHE", raising=False)  # a sweep would give its own to all machines
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


def numbers(folder: RunFolder) -> dict[tuple[str, int], object]:
    def facts(row: Row) -> object:
        losses = [line.number("loss") for line in folder.history(row.run) if line.seed == row.seed]
        return row.status, row.epochs, row.metrics, losses

    return {(row.arm, row.seed): facts(row) for row in folder.rows()}


def student(folder: RunFolder, row: Row) -> dict[str, torch.Tensor]:
    return read_state(folder.bring(folder.student_path(row.run, row.seed))).state


def test_a_lost_machine_costs_nothing_that_is_in_the_bucket(
    s3: Address, cluster: Cluster, tiny_document: dict[str, Any], tmp_path: Path
) -> None:
    training = {**tiny_document["training"], "epochs": 30, "checkpoint": {"seconds": 0.2}}
    # So long that the machine that is left cannot train everything before the new one's first process has begun.
    task = {**tiny_document["task"], "train": 240}
    choice = {"plain": {"review": None}, "tskd": {}}
    experiment = {**tiny_document, "task": task, "training": training, "choice": choice}
    sweep = Sweep.read({"experiment": experiment, "seeds": [1, 2, 3], "search": {"name": "grid"}, "max_failures": 0})
    machines = [_machine(cluster, tmp_path, name) for name in ("first", "second")]
    begun: dict[str, int] = {}

    def listener(event: Event) -> None:
        if event.what == "epoch":
            begun[f"{event.arm} {event.seed}"] = event.epoch or 0
        if event.what == "finished" and len(machines) == 2:
            # Not the one of the raylets at this address through which Ray has joined the driver.
            lost = next(one for one in machines if one.raylet_socket_name != ray_private.raylet_socket())
            machines.remove(lost)
            cluster.remove_node(lost, allow_graceful=False)
            _machine(cluster, tmp_path, "third")

    with addressed(cluster.address):
        folder = start(sweep, "run", s3, listener, track=False)
    assert len(begun) == 6 and len(machines) == 1
    assert list((tmp_path / "third").rglob("trainings/*")), "the new machine has trained"
    calm = start(sweep, "calm", tmp_path / "runs", lambda event: None, track=False)
    assert numbers(folder) == numbers(calm) and len(numbers(calm)) == 6
    for row in folder.rows():
        twin = next(other for other in calm.rows() if (other.arm, other.seed) == (row.arm, row.seed))
        assert all(torch.equal(value, student(calm, twin)[key]) for key, value in student(folder, row).items())


def _machine(cluster: Cluster, folder: Path, name: str) -> Any:
    return cluster.add_node(num_cpus=1, env_vars={"XDG_CACHE_HOME": str(folder / name)})
