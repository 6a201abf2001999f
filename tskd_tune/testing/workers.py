"""Several workers of a data-parallel training in one process: each is a thread, and they exchange by gloo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.distributed.distributed_c10d import Store

from tskd_tune.errors import LostWorkerError
from tskd_tune.training.group import Group, listening, reached
from tskd_tune.training.trainer import Trainer

T = TypeVar("T")
PATIENCE = 30.0


def groups(world: int = 2) -> list[Group]:
    """Return the view that each worker has of a new group."""
    here = "127.0.0.1"
    first, port = listening(here, world, patience=PATIENCE)
    stores = [first, *(reached(here, port, world, patience=PATIENCE) for _ in range(1, world))]
    return at_once([partial(_join, store, rank, world) for rank, store in enumerate(stores)])


def _join(store: Store, rank: int, world: int) -> Group:
    return Group.join(store, rank, world, torch.device("cpu"), patience=PATIENCE)


def at_once(acts: Sequence[Callable[[], T]]) -> list[T]:
    """Carry out all acts at once, each in a thread, and return what they return; raise the error of one that failed."""
    with ThreadPoolExecutor(len(acts)) as pool:
        futures = [pool.submit(act) for act in acts]
        errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None and not isinstance(error, LostWorkerError):
                raise error
        return [future.result() for future in futures]


def trained(trainers: Sequence[Trainer], epochs: int | None = None) -> Sequence[Trainer]:
    """Train the workers of one training together, to the end or for some epochs, and return them."""

    def train(trainer: Trainer) -> None:
        try:
            while not trainer.finished and (epochs is None or trainer.next_epoch < epochs):
                trainer.epoch()
        except BaseException:
            if trainer.compute.group is not None:  # so that the others need not wait
                with suppress(RuntimeError):
                    trainer.compute.group.leave()
            raise

    at_once([partial(train, trainer) for trainer in trainers])
    return trainers


def in_float64(trainer: Trainer) -> Trainer:
    """Let a new training compute in float64, so that only rounding of this precision is left between two of them."""
    review = trainer.review
    parts = [trainer.student, trainer.teacher, trainer.distiller, None if review is None else review.loss]
    for part in parts:
        if part is not None:
            part.double()
    for network in (trainer.student, getattr(trainer.teacher, "network", trainer.teacher)):
        if network is not None:
            network.register_forward_pre_hook(_widened)
    return trainer


def _widened(network: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (given[0].double(), *given[1:])
