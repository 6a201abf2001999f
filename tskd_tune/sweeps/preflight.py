"""Looks at every machine of a joined cluster before anything is trained there: can the sweep train on it?

A machine that lacks something would fail trials one after the other, after their teachers were paid for. All machines
are looked at, and one error names each that lacks something. A machine that joins the cluster later looks at itself
when its first trial begins (`tskd_tune.sweeps.machines.late_nodes`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.files import write_whole
from tskd_tune.outside import own_code, own_names
from tskd_tune.paths import Address, StoragePlace
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.storage.objects import Objects
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines.node_probe import Looked, Needs, package_digest, versions
from tskd_tune.sweeps.machines.nodes import Amounts, Node, alive, fits, in_words
from tskd_tune.sweeps.on_ray.ray_address import is_named
from tskd_tune.sweeps.recorder import reason_of_loss

# A machine has to start a worker process, which imports torch, and to look at its disks.
SECONDS: Final = 180.0
# The first file of a run's folder, by which a machine that joins later knows the storage.
STATE: Final = "state.json"


def look_at_nodes(sweep: Sweep, run: StoragePlace, wanted: Amounts, listener: Listener) -> Looked | None:
    """Look at the machines of a joined cluster, and say which cluster was joined.

    Args:
        sweep: the sweep to train.
        run: the run's folder or address, which need not exist yet.
        wanted: what a trial takes; a machine that has less trains nothing and is not looked at.
        listener: is told of the cluster.

    Returns:
        What was looked at; None on this machine alone, where nothing is to be looked at.

    Raises:
        InputError: a machine lacks something; one line names each of these machines.
    """
    if not (ray.is_initialized() and (is_named() or len(alive()) > 1)):
        return None
    there, address = alive(), ray.get_runtime_context().gcs_address
    trains = [node for node in there if fits(wanted, [node.amounts])]
    listener(Event("machines", "", reason=f"joined the Ray cluster at {address}: {in_words(there)}"))
    with _marked(run.parent) as marker:
        needs = needs_of(sweep, run.parent, marker)
        _refuse(look(trains, needs), len(trains), address)
    if isinstance(run, Address):
        later = replace(needs, address=run.url, marker="")
    else:
        later = replace(needs, storage=str(run), marker=STATE)
    return Looked(later, frozenset(node.id for node in trains))


def needs_of(sweep: Sweep, storage: StoragePlace, marker: str) -> Needs:
    """Return what a machine must have to train a sweep, as this machine has it."""
    experiments = list(_telling(sweep.experiment_at(point) for point in sweep.space().corners()))
    plain = [experiment.plain() for experiment in experiments]
    return Needs(
        storage=None if isinstance(storage, Address) else str(storage),
        address=storage.url if isinstance(storage, Address) else "",
        marker=marker,
        versions=versions(),
        code=package_digest(),
        experiments=plain,
        data=[task_of(experiment).fingerprint() for experiment in experiments],
        components=own_code(plain),
    )


def look(nodes: Sequence[Node], needs: Needs) -> dict[str, list[str]]:
    """Return what each machine lacks, by the machine's name in messages; machines that lack nothing are left out."""
    # No retries: a machine that dies while it is looked at has joined for nothing.
    task: Any = ray.remote(num_cpus=0, max_retries=0)(_asking())
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(vars(needs)): node
        for node in nodes
    }
    until = time.monotonic() + SECONDS
    found: dict[str, list[str]] = {}
    waiting = list(asked)
    while waiting and time.monotonic() < until:
        ready, waiting = ray.wait(waiting, timeout=1.0)
        for reference in ready:
            if lacks := _answer(reference):
                found[str(asked[reference])] = lacks
    for reference in waiting:
        ray.cancel(reference, force=True)
        found[str(asked[reference])] = [
            f"did not answer within {SECONDS:.0f} s (a disk or a network file system that hangs?); check this node, or"
            " take it out of the cluster"
        ]
    return found


def _asking() -> Callable[[Mapping[str, Any]], list[str]]:
    """Return the function that a machine carries out; Ray sends its code, as the machine may lack this package."""

    def ask(needs: Mapping[str, Any]) -> list[str]:
        given = needs["versions"].get("tskd-tune")
        try:
            from tskd_tune.sweeps.machines.node_probe import Needs as Wanted
            from tskd_tune.sweeps.machines.node_probe import problems

            return problems(Wanted(**needs))
        except (ImportError, TypeError) as error:  # no such package, or another version of it
            return [
                f"cannot run tskd-tune {given} ({type(error).__name__}: {error}); install it there, in the Python that"
                " `ray start` uses"
            ]

    return ask


def _answer(reference: ray.ObjectRef[list[str]]) -> list[str]:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return [f"cannot be looked at ({reason_of_loss(error)}); check this node, or take it out of the cluster"]


def _refuse(lacking: Mapping[str, Sequence[str]], count: int, address: str) -> None:
    if not lacking:
        return
    head = (
        f"{len(lacking)} of {count} nodes of the cluster at {address} cannot train this sweep; nothing was trained;"
        " correct them, or take them out of the cluster"
    )
    raise InputError("\n".join([head, *(f"{node}: {one}" for node, many in lacking.items() for one in many)]))


@contextmanager
def _marked(storage: StoragePlace) -> Iterator[str]:
    """Write a file or an object into the storage within the block, and yield its name."""
    marker, content = f".tskd-tune-{uuid4().hex}", b"tskd-tune looks whether all nodes see this; it can be removed\n"
    if isinstance(storage, Address):
        objects = Objects(storage)
        objects.write(marker, content)
        try:
            yield marker
        finally:
            objects.delete(marker)
        return
    is_new = not storage.exists()
    storage.mkdir(parents=True, exist_ok=True)
    try:
        write_whole(storage / marker, content)
        yield marker
    finally:
        with suppress(OSError):
            (storage / marker).unlink()
            if is_new:
                storage.rmdir()  # fails where a run began


def _telling(experiments: Iterable[Experiment]) -> Iterator[Experiment]:
    """Yield an experiment for each task and for each component of the user."""
    known = set[str]()
    for experiment in experiments:
        plain = experiment.plain()
        tells = {json.dumps(plain["task"], sort_keys=True), *own_names(plain)}
        if not tells <= known:
            known |= tells
            yield experiment
