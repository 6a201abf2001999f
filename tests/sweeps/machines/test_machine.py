"""What `check` refuses because this machine does not have it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines import machine


@pytest.fixture(autouse=True)
def _unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def sweep(tiny: dict[str, Any], **over: Any) -> Sweep:
    return Sweep.read({"experiment": tiny, "search": {"name": "grid"}, **over})


@pytest.mark.parametrize(
    ("resources", "told"),
    [({"gpu": 1}, r"resources.gpu: a trial asks for 1, but this machine has 0"), ({"cpu": 10**6}, "resources.cpu")],
)
def test_more_than_this_machine_has_is_refused_unless_a_cluster_is_named(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, resources: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(machine.torch.cuda, "device_count", lambda: 0)
    given = sweep(tiny_document, resources=resources)
    for address in ("", "local"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=told):
            machine.refuse_here(given)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    machine.refuse_here(given)


def test_a_process_that_uses_a_cluster_already_may_ask_for_what_the_cluster_has(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    machine.refuse_here(sweep(tiny_document, resources={"cpu": 10**6}))


def test_what_this_machine_lacks_is_said_with_its_line(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    file = tmp_path / "s.yaml"
    text = documents.dump({"experiment": tiny_document, "search": {"name": "grid"}})
    file.write_text(f"resources:\n  cpu: 1000000\n{text}")
    with pytest.raises(InputError, match=r"s.yaml:2: resources.cpu: a trial asks for 1e\+06, but this machine has"):
        machine.refuse_here(Sweep.load(file))


def test_what_there_is_is_let_through(tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machine.torch.cuda, "device_count", lambda: 1)
    machine.refuse_here(sweep(tiny_document, resources={"cpu": os.cpu_count(), "gpu": 0.25}))


@pytest.mark.parametrize("gpu", [1.5, 2.25])
def test_a_trial_takes_whole_gpus_or_a_share_of_one(tiny_document: dict[str, Any], gpu: float) -> None:
    with pytest.raises(InputError, match=rf"resources.gpu: a trial uses whole GPUs or a share of one, got {gpu}"):
        sweep(tiny_document, resources={"gpu": gpu})


@pytest.mark.parametrize("name", ["pbt", "PB2", "ray.tune.schedulers:PopulationBasedTraining", "a.b:PB2"])
def test_population_based_training_is_refused_with_the_reason(tiny_document: dict[str, Any], name: str) -> None:
    for scheduler in (name, {"name": name}):
        with pytest.raises(InputError, match=r"scheduler: '.*' changes options in the middle of a training.* use asha"):
            sweep(tiny_document, scheduler=scheduler)
