"""The resources of a trial on the machines of a cluster; a trial that fits on no machine is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from tskd_tune.errors import InputError
from tskd_tune.records.events import Event, Listener
from tskd_tune.sweeps import ray_private
from tskd_tune.sweeps.ray_address import VARIABLE
from tskd_tune.sweeps.schema import Sweep

# Without an autoscaler, the longest wait for a machine that is about to join the cluster.
WAIT_SECONDS = 30.0
Amounts = Mapping[str, float]


def needed(sweep: Sweep) -> dict[str, float]:
    """Return the resources of one trial: ``cpu``, and ``gpu`` if the trial takes a GPU."""
    gpu = sweep.resources.gpu
    if gpu is None:
        gpu = 1.0 if cluster().get("GPU", 0) >= 1 else 0.0
    return {"cpu": sweep.resources.cpu, **({"gpu": gpu} if gpu else {})}


def capacity(sweep: Sweep) -> int:
    """Return how many trials run at once on the present machines of the cluster."""
    there = cluster()
    fitting = [int(there.get(name.upper(), 0) / amount) for name, amount in needed(sweep).items()]
    return max(1, min(fitting))


def cluster() -> dict[str, float]:
    """Return the resources of all machines together."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def refuse_unfit(sweep: Sweep, listener: Listener) -> None:
    """Refuse resources that no machine has, because a trial would wait for ever; an autoscaler may add a machine.

    Raises:
        InputError: no machine has the resources of a trial, or ``memory`` is an objective but no trial takes a GPU.
    """
    _refuse_too_large(sweep, listener)
    _refuse_unmeasured(sweep)


def _refuse_too_large(sweep: Sweep, listener: Listener) -> None:
    if not os.environ.get(VARIABLE):
        _refuse_more_than(needed(sweep), cluster())
        return
    until = time.monotonic() + WAIT_SECONDS
    while not _fits(wanted := needed(sweep), _machines()):
        planned = _planned()
        if _fits(wanted, planned):
            listener(
                Event("machines", "", reason=f"no machine has {_text(wanted)} yet; the cluster's autoscaler adds one")
            )
            return
        if planned or time.monotonic() > until:
            raise InputError(_too_large(wanted, [*_machines(), *planned]))
        time.sleep(1)


def _refuse_more_than(wanted: Amounts, there: Amounts) -> None:
    for name, amount in wanted.items():
        if amount > there.get(name.upper(), 0):
            raise InputError(
                f"resources.{name}: a trial asks for {amount:g}, but this machine has {there.get(name.upper(), 0):g};"
                f" lower resources.{name}, or set {VARIABLE} to a cluster that has it"
            )


def _refuse_unmeasured(sweep: Sweep) -> None:
    """Refuse the objective ``memory`` if no trial takes a GPU: only the memory of GPUs is measured."""
    if "memory" in sweep.goals and "gpu" not in needed(sweep):
        raise InputError(
            "search.objectives: memory is the peak of a GPU's, but trials take no GPU here; leave it out, or set"
            " resources.gpu on a machine that has one"
        )


def _too_large(wanted: Amounts, machines: Sequence[Amounts]) -> str:
    names = list(wanted)
    largest = max(machines, key=lambda machine: [machine.get(name.upper(), 0) for name in reversed(names)], default={})
    has = _text({name: largest.get(name.upper(), 0) for name in names})
    return (
        f"resources: a trial asks for {_text(wanted)}, but no machine of the cluster has that; the largest has"
        f" {has}; lower resources, or add a machine"
    )


def _text(amounts: Amounts) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())


def _fits(wanted: Amounts, machines: Sequence[Amounts]) -> bool:
    return any(all(machine.get(name.upper(), 0) >= amount for name, amount in wanted.items()) for machine in machines)


def _machines() -> list[Amounts]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def _planned() -> list[Amounts]:
    """Return the kinds of machines that an autoscaler may add; [] without an autoscaler."""
    return list(ray_private.machines_to_add())
