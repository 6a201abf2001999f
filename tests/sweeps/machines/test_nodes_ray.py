"""A cluster of several simulated machines in one process tree: unfit machines are refused, or left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines import waiting
from tskd_tune.sweeps.on_ray.ray_address import addressed
from tskd_tune.sweeps.run import start

pytestmark = pytest.mark.slow

COMPONENT = """
import os

from tskd_tune.errors import InputError
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import synthetic


def data() -> Task:
    '''Random images, which some machines lack.'''
    if os.environ.get("LACKS_DATA"):
        raise InputError("task.root: there is no folder /data; give the folder of the images")
    return synthetic(batch_size=8, size=8, train=24, validation=8, test=8)
"""
LACKS_DATA = {"LACKS_DATA": "1"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose head runs no trial; its processes are the test's own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


class Holder:
    """Holds a core of a machine."""

    def hold(self) -> None:
        """Return when the core is held."""


def test_machines_that_lack_something_are_refused_at_once_or_left_alone_later(
    cluster: Cluster, tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 1.0)
    (tmp_path / "mine.py").write_text(COMPONENT)
    experiment = {**tiny_document, "task": {"name": f"{tmp_path}/mine:data"}, "teacher": None, "review": None}
    experiment["training"] = {"epochs": 2, "lr": 0.01, "device": "cpu"}
    given = {"experiment": experiment, "seeds": [1, 2, 3], "search": {"name": "grid"}, "max_failures": 1}
    heard: list[Event] = []

    def said() -> list[str]:
        told = [event.reason or "" for event in heard if event.what == "machines"]
        return [sentence for sentence in told if "no trial is placed on this node again" in sentence]

    unfit = cluster.add_node(num_cpus=1, env_vars=LACKS_DATA)
    with addressed(cluster.address):
        with pytest.raises(InputError) as raised:
            start(Sweep.read(given), "first", tmp_path / "runs", heard.append, track=False)
        head, *lacks = str(raised.value).splitlines()
        assert head.startswith(f"1 of 1 nodes of the cluster at {cluster.address} cannot train this sweep")
        assert len(lacks) == 1 and "there is no folder /data" in lacks[0] and "(" in lacks[0].partition(":")[0]
        assert not (tmp_path / "runs").exists()
        assert heard[-1].reason == f"joined the Ray cluster at {cluster.address}: 2 nodes, 1 CPU, 0 GPUs"

        cluster.remove_node(unfit)
        cluster.add_node(num_cpus=1)

        holders: list[Any] = []

        def listener(event: Event) -> None:
            heard.append(event)
            if (event.reason or "").startswith("joined"):  # the only fit machine is busy as another one joins
                holders.append(ray.remote(num_cpus=1)(Holder).remote())
                ray.get(holders[0].hold.remote())
                cluster.add_node(num_cpus=2, env_vars=LACKS_DATA)
            if holders and said():
                ray.kill(holders.pop())

        folder = start(Sweep.read(given), "second", tmp_path / "runs", listener, track=False)
    assert sorted((row.seed, row.status) for row in folder.rows()) == [(seed, "done") for seed in (1, 2, 3)]
    (sentence,) = said()
    assert "there is no folder /data" in sentence and sentence.startswith("node ")
    assert any("the next trial has waited for" in (event.reason or "") for event in heard)
