"""The workers of a trial with several GPUs: the trial's own process is worker 0, the others are actors of Ray.

The bundles of the trial's placement group hold one worker each, so Ray Tune reserves all of them, on one machine or on
several, before the trial begins. Worker 0 alone keeps records, checkpoints and W&B runs. It sends the others the state
that they begin with, and tells them which trainings take an epoch. When one worker fails, all of them stop: Ray Tune
then tries the trial again, and it goes on from its checkpoint.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import psutil
import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tskd_tune.contracts import Saved
from tskd_tune.errors import LostWorkerError
from tskd_tune.experiment import Experiment
from tskd_tune.plain import Document
from tskd_tune.records.sessions.session import Session
from tskd_tune.sweeps.machines.late_nodes import refuse_here
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.trials.member import Member
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.training.checkpoint import copied
from tskd_tune.training.group import PATIENCE, Group, listening, reached
from tskd_tune.training.lockstep import advance
from tskd_tune.training.trainer import Trainer

SETTLE: Final = 10.0
"""Seconds within which the workers of a failed step have failed too, each with its own error."""


class Worker:
    """One worker of a trial beside worker 0, as an actor of Ray."""

    def __init__(self, rank: int, shipped: Shipped) -> None:
        """Train with what a sweep ships to its trials, but keep no files."""
        self._rank = rank
        self._shipped = replace(shipped, folder=None, run=None)
        self._group: Group | None = None
        self._member: Member | None = None

    def look(self) -> str:
        """Look at this machine, if it joined the cluster late, and return its IP address.

        Raises:
            UnfitNodeError: the machine lacks something.
        """
        refuse_here(self._shipped.looked)
        return _own_address()

    def build(self, config: Document, host: str, port: int) -> None:
        """Join the group of a trial, at the address of worker 0, and build the trainings of the trial."""
        self.leave()
        use_interface(_own_address())
        store = reached(host, port, self._shipped.workers, patience=PATIENCE)
        self._group = Group.join(store, self._rank, self._shipped.workers, device_of(config))
        self._member = Member(TrialConfig(**config), self._shipped)
        self._member.build(self._group)

    def take_up(self, states: Sequence[Saved]) -> None:
        """Go on from the states of worker 0."""
        assert self._member is not None
        for session, state in zip(self._member.sessions, states, strict=True):
            session.trainer.observers.clear()
            session.trainer.load_state_dict(state)

    def train(self, seeds: Sequence[int]) -> None:
        """Train an epoch of some seeds' trainings, together with the other workers."""
        assert self._member is not None
        trainers = [one.trainer for one in self._member.sessions if one.experiment.seed in seeds]
        try:
            advance(trainers)
        except BaseException:
            self.leave()  # so that the others need not wait
            raise

    def leave(self) -> None:
        """Leave the group, and let the trainings go."""
        if self._group is not None:
            self._group.leave()
        if self._member is not None:
            self._member.close()
        self._group = self._member = None


class Team:
    """All workers of a trial, from worker 0's side; they stay for the trials that follow in this process."""

    def __init__(self, shipped: Shipped) -> None:
        """Start the other workers in the bundles of the trial's placement group."""
        group = ray.util.get_current_placement_group()
        assert group is not None
        content = ray.put(shipped)
        self._actors: list[Any] = []
        for rank in range(1, shipped.workers):
            bundle = group.bundle_specs[rank]
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            actor: Any = ray.remote(Worker).options(
                num_cpus=bundle.get("CPU", 0), num_gpus=bundle.get("GPU", 0), scheduling_strategy=place, max_restarts=0
            )
            self._actors.append(actor.remote(rank, content))
        self._addresses: list[str] = []
        self._building: list[Any] = []
        self._group: Group | None = None

    def gather(self, config: Document) -> Group:
        """Form a new group of all workers for a trial; the others also begin to build its trainings.

        Raises:
            LostWorkerError: a worker did not come.
            UnfitNodeError: the machine of another worker lacks something.
        """
        self.leave()
        looks = [actor.look.remote() for actor in self._actors]
        self._wait(looks)
        self._addresses = ray.get(looks)
        host = _own_address()
        use_interface(host)
        world = len(self._actors) + 1
        store, port = listening(host, world, patience=PATIENCE)
        self._building = [actor.build.remote(config, host, port) for actor in self._actors]
        try:
            self._group = Group.join(store, 0, world, device_of(config))
        except LostWorkerError as error:
            error.silent = _silent(self._building, self._addresses)
            raise
        return self._group

    def take_up(self, sessions: Sequence[Session]) -> None:
        """Let the other workers go on from the state of worker 0, when all have built the trainings.

        Raises:
            BaseException: what failed in another worker.
        """
        self._wait(self._building)
        states = ray.put([copied(session.trainer.state_dict()) for session in sessions])
        self._wait([actor.take_up.remote(states) for actor in self._actors])

    @contextmanager
    def training(self, trainers: Sequence[Trainer]) -> Iterator[None]:
        """Let the other workers train an epoch of the same trainings as worker 0 does in the block.

        Raises:
            BaseException: what failed first: an error of the block, or of another worker.
        """
        seeds = [trainer.schedule.seed for trainer in trainers]
        group = self._group
        assert group is not None
        calls = [actor.train.remote(seeds) for actor in self._actors]
        threading.Thread(target=_watch, args=(calls, group), daemon=True).start()
        try:
            yield
        except LostWorkerError as error:
            self.leave()
            cause = _first_cause(calls, error) or error
            if isinstance(cause, LostWorkerError):
                cause.silent = _silent(calls, self._addresses)
            raise cause from error
        except BaseException:
            self.leave()  # so that the others need not wait
            raise
        self._wait(calls)

    def _wait(self, calls: Sequence[Any]) -> None:
        """Wait for the other workers; raise the error that explains the others."""
        failed = _first_cause(calls, None)
        if failed is not None:
            self.leave()
            raise failed

    def leave(self) -> None:
        """Leave the group; the workers wait for the next trial."""
        if self._group is not None:
            self._group.leave()
        self._group = None

    def end(self) -> None:
        """End all other workers."""
        self.leave()
        for actor in self._actors:
            ray.kill(actor)


def _watch(calls: Sequence[Any], group: Group) -> None:
    """Leave the group when another worker fails: on GPUs a message to a lost worker would wait for long."""
    left = list(calls)
    while left:
        done, left = ray.wait(left, num_returns=1)
        try:
            ray.get(done)
        except RayError:
            group.leave()
            return


def _first_cause(calls: Sequence[Any], own: LostWorkerError | None) -> BaseException | None:
    """Return the error of another worker that is no mere consequence; otherwise the own error, if any."""
    found: BaseException | None = own
    done, _ = ray.wait(list(calls), num_returns=len(calls), timeout=None if own is None else SETTLE)
    for call in done:
        try:
            ray.get(call)
        except RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, LostWorkerError):
                return cause if isinstance(cause, Exception) else error
            found = found or cause
        except RayActorError as error:
            rank = list(calls).index(call) + 1
            first = str(error).strip().partition("\n")[0]
            found = LostWorkerError(f"training: the process of worker {rank} of {len(calls) + 1} ended ({first})")
    return found


def _silent(calls: Sequence[Any], addresses: Sequence[str]) -> tuple[str, ...]:
    """Return the addresses of the workers that have neither answered nor ended."""
    _, open_ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
    return tuple(address for call, address in zip(calls, addresses, strict=True) if call in open_)


def _own_address() -> str:
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


def device_of(config: Document) -> torch.device:
    """Return the device on which a trial computes in this process."""
    return Experiment.read(TrialConfig(**config).experiment).training.compute().device


def use_interface(address: str) -> None:
    """Let gloo and NCCL use the network of an address: gloo would take that of the host's name, often the loopback."""
    for name, found in psutil.net_if_addrs().items():
        if any(one.address == address for one in found):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
