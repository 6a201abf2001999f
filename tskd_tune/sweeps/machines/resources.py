"""The resources of a trial on the machines of a cluster; a trial that fits on no machine is refused."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines.nodes import Amounts, alive, fits, places, planned
from tskd_tune.sweeps.on_ray.ray_address import OPTION, is_named

# Without an autoscaler, the longest wait for a machine that is about to join the cluster.
WAIT_SECONDS = 30.0
# The largest number of trials that wait for machines; each is a request to the autoscaler.
MOST_WAITING = 1000


def needed(sweep: Sweep) -> dict[str, float]:
    """Return the resources of one worker of a trial: ``cpu``, and ``gpu`` if it takes a GPU; most trials have one."""
    gpu = sweep.resources.gpu
    if gpu is None:
        gpu = 1.0 if any(one.get("GPU", 0) >= 1 for one in [*_machines(), *_planned()]) else 0.0
    return {"cpu": sweep.resources.cpu, **({"gpu": min(gpu, 1.0)} if gpu else {})}


def reserved(wanted: Amounts, workers: int) -> list[dict[str, float]]:
    """Return the bundles that Ray Tune reserves for a trial: one for each worker."""
    return [{name.upper(): float(amount) for name, amount in wanted.items()}] * workers


def capacity(wanted: Amounts, workers: int = 1) -> int:
    """Return how many trials run at once: on the present machines, or on all that an autoscaler may add if more.

    So an autoscaler sees trials wait, and adds machines; other clusters get no more trials than they hold.

    Args:
        wanted: what a worker takes.
        workers: the number of workers of a trial, which may be on several machines.
    """
    now = _room(wanted, _machines()) // workers
    grown = sum(places(wanted, kind.amounts) * kind.most for kind in planned()) // workers
    return max(1, now, min(grown, MOST_WAITING + now))


def _room(wanted: Amounts, machines: Sequence[Amounts]) -> int:
    return sum(places(wanted, one) for one in machines)


def refuse_unfit(sweep: Sweep, listener: Listener) -> None:
    """Refuse resources that no machine has, because a trial would wait for ever; an autoscaler may add a machine.

    Raises:
        InputError: no machine has the resources of a trial, or ``memory`` is an objective but no trial takes a GPU.
    """
    _refuse_too_large(sweep, listener)
    _refuse_unmeasured(sweep)


def _refuse_too_large(sweep: Sweep, listener: Listener) -> None:
    workers = sweep.resources.worker_count
    if not is_named() and len(_machines()) < 2:
        of_trial = {name: workers * amount for name, amount in needed(sweep).items()}
        _refuse_more_than(of_trial, next(iter(_machines()), {}))
        return
    until = time.monotonic() + WAIT_SECONDS
    while _room(wanted := needed(sweep), _machines()) < workers:
        more = _planned()
        if fits(wanted, more):
            listener(
                Event("machines", "", reason=f"no machine has {text(wanted)} yet; the cluster's autoscaler adds one")
            )
            return
        if more or time.monotonic() > until:
            raise InputError(_too_large(wanted, [*_machines(), *more], workers))
        time.sleep(1)


def _refuse_more_than(wanted: Amounts, there: Amounts) -> None:
    for name, amount in wanted.items():
        if amount > there.get(name.upper(), 0):
            raise InputError(
                f"resources.{name}: a trial asks for {amount:g}, but this machine has {there.get(name.upper(), 0):g};"
                f" lower resources.{name}, or give {OPTION} of a cluster that has it"
            )


def _refuse_unmeasured(sweep: Sweep) -> None:
    """Refuse the objective ``memory`` if no trial takes a GPU: only the memory of GPUs is measured."""
    if "memory" in sweep.goals and "gpu" not in needed(sweep):
        raise InputError(
            "search.objectives: memory is the peak of a GPU's, but trials take no GPU here; leave it out, or set"
            " resources.gpu on a machine that has one"
        )


def _too_large(wanted: Amounts, machines: Sequence[Amounts], workers: int) -> str:
    room = _room(wanted, machines)
    if room:
        return (
            f"resources: a trial asks for {workers} workers with {text(wanted)} each, but the cluster has room for"
            f" {room}; lower resources, or add machines"
        )
    names = list(wanted)
    largest = max(machines, key=lambda machine: [machine.get(name.upper(), 0) for name in reversed(names)], default={})
    has = text({name: largest.get(name.upper(), 0) for name in names})
    return (
        f"resources: a trial asks for {text(wanted)}, but no machine of the cluster has that; the largest has"
        f" {has}; lower resources, or add a machine"
    )


def text(amounts: Amounts) -> str:
    """Return amounts in words: ``cpu 1, gpu 0.5``."""
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())


def _machines() -> list[Amounts]:
    return [node.amounts for node in alive()]


def _planned() -> list[Amounts]:
    """Return the kinds of machines that an autoscaler may add; [] without an autoscaler."""
    return [kind.amounts for kind in planned()]
