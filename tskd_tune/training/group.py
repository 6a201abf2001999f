"""The workers of a data-parallel training, and what they exchange: gloo on CPUs, NCCL on GPUs.

The loss of a step is the sum of one part for each worker. Everything that workers exchange within a step has the exact
gradient of this sum, so the gradients of the parts need only be added. A sum has the same bits on every worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import groupby
from typing import Any, Final, Protocol, Self, cast, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store, Work

from tskd_tune.errors import LostWorkerError

MEETING: Final = 60.0
"""Seconds within which all workers, which have started before, join a group."""


class Backend(Protocol):
    """What exchanges tensors between processes: gloo or NCCL."""

    def allgather(self, found: list[list[Tensor]], own: list[Tensor], /) -> Work:
        """Fill a list with the tensors of all processes."""

    def allreduce(self, tensors: list[Tensor], /) -> Work:
        """Replace a tensor by the sum over the processes."""

    def broadcast(self, tensor: Tensor, rank: int, /) -> Work:
        """Replace a tensor by that of a process."""

    def abort(self) -> None:
        """Close the connections."""


PATIENCE: Final = 600.0
"""Seconds that a worker waits for the others. A worker that dies is noticed at once, one that hangs only so."""

NCCL_SETTINGS: Final = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "2", "TORCH_NCCL_RETHROW_CUDA_ERRORS": "0"}
"""Torch watches NCCL in a thread of its own. By default it ends the process when a worker is lost or silent, without a
word of ours. With these it closes the connections, and the next exchange or `Group.confirm` raises."""


@final
class Group:
    """This process as one of the workers of data-parallel trainings; a process belongs to one group at a time.

    Attributes:
        rank: the number of this worker, from 0; worker 0 keeps the records and the checkpoints.
        world: the number of workers.
    """

    def __init__(self, rank: int, world: int, backend: Backend, *, patience: float = PATIENCE) -> None:
        """Exchange by a backend that all workers have joined; see `join`."""
        self.rank = rank
        self.world = world
        self._backend: Backend | None = backend
        self._patience = patience
        self._last: Work | None = None

    @classmethod
    def join(cls, store: Store, rank: int, world: int, device: torch.device, *, patience: float = PATIENCE) -> Self:
        """Wait until all workers have joined.

        Args:
            store: where all workers meet; see `listening` and `reached`.
            rank: the number of this worker, from 0.
            world: the number of workers.
            device: where this worker computes; all workers compute on the same kind of device.
            patience: seconds that a worker waits for the others, now and later.

        Raises:
            LostWorkerError: not all workers came in time.
        """
        with _saying(rank, world, min(patience, MEETING)):
            store.set(str(rank), "here")
            store.wait([str(each) for each in range(world)], timedelta(seconds=min(patience, MEETING)))
        with _saying(rank, world, patience):
            # NCCL keeps its address under "0" in the store, and would take what worker 0 left there above for it.
            apart = PrefixStore("backend", store)
            return cls(rank, world, backend_of(apart, rank, world, device, patience), patience=patience)

    def leave(self) -> None:
        """Leave the group: close the connections, so that workers that wait for this one fail at once."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.abort()

    def gather(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the values of all workers, joined along the first dimension in the order of the ranks.

        The gradient of the result flows to every worker's values.

        Args:
            own: the values of this worker, ``[sizes[rank], ...]``.
            sizes: how many values each worker has.

        Raises:
            LostWorkerError: a worker ended, or did not answer in time.
        """
        joined: Tensor = _Gather.apply(own, self, tuple(sizes))
        return joined

    @torch.no_grad()
    def gathered(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the same as `gather`, without gradient."""
        longest = max(sizes)
        padded = own.new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in sizes]
        with self._waiting() as backend:
            self._last = backend.allgather([found], [padded])
            self._last.wait()
        return torch.cat([part[:size] for part, size in zip(found, sizes, strict=True)])

    @torch.no_grad()
    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by the sum over the workers; all go in one message for each dtype."""
        self._exchange(tensors, lambda backend, flat: backend.allreduce([flat]))

    @torch.no_grad()
    def take_over(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by that of worker 0."""
        self._exchange(tensors, lambda backend, flat: backend.broadcast(flat, 0))

    def _exchange(self, tensors: Iterable[Tensor], act: Callable[[Backend, Tensor], Work]) -> None:
        def kind(tensor: Tensor) -> str:
            return str(tensor.dtype)

        for _, same in groupby(sorted(tensors, key=kind), key=kind):
            given = list(same)
            flat = torch.cat([tensor.reshape(-1) for tensor in given])
            with self._waiting() as backend:
                self._last = act(backend, flat)
                self._last.wait()
            for tensor, new in zip(given, torch.split(flat, [tensor.numel() for tensor in given]), strict=True):
                tensor.copy_(new.view_as(tensor))

    def confirm(self) -> None:
        """Make sure that all exchanges so far have succeeded; call this after what came of them was read.

        A GPU exchanges while this process goes on. If a worker is lost then, what was exchanged is no number of anyone.

        Raises:
            LostWorkerError: an exchange failed, or this worker has left the group.
        """
        with self._waiting():
            if self._last is not None:
                self._last.wait()

    @contextmanager
    def _waiting(self) -> Iterator[Backend]:
        with _saying(self.rank, self.world, self._patience):
            if self._backend is None:
                raise RuntimeError("this worker has left the group")
            yield self._backend


def listening(host: str, world: int, *, patience: float) -> tuple[Store, int]:
    """Return a store where workers meet, on a free port of this machine, which is worker 0's; and the port."""
    waits = timedelta(seconds=patience)
    with _saying(0, world, patience):
        store = TCPStore(host, 0, world, is_master=True, timeout=waits, wait_for_workers=False)
        return store, store.port


def reached(host: str, port: int, world: int, *, patience: float) -> Store:
    """Return the store that worker 0 listens with.

    Raises:
        LostWorkerError: nobody listens there.
    """
    with _saying(world - 1, world, patience):
        waits = timedelta(seconds=patience)
        return TCPStore(host, port, world, is_master=False, timeout=waits, wait_for_workers=False)


def backend_of(store: Store, rank: int, world: int, device: torch.device, patience: float) -> Backend:
    """Return what exchanges tensors of a kind of device between processes that meet in a store."""
    waits = timedelta(seconds=patience)
    if device.type != "cuda":
        return cast(Backend, dist.ProcessGroupGloo(store, rank, world, waits))
    for name, value in NCCL_SETTINGS.items():
        os.environ.setdefault(name, value)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = waits
    return cast(Backend, dist.ProcessGroupNCCL(store, rank, world, options))


@contextmanager
def _saying(rank: int, world: int, patience: float) -> Iterator[None]:
    """Turn an error of the communication into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first = " ".join(str(error).rpartition("Last error:")[2].split())[:200]  # what NCCL itself says comes last
        raise LostWorkerError(
            f"training: worker {rank} of {world} lost the others, or waited {patience:g} s for them ({first}); the"
            " training goes on from its last checkpoint when it is tried again"
        ) from error


class _Gather(torch.autograd.Function):
    """Joins the values of all workers; the gradient of the joined values is added up, and each takes its own."""

    @staticmethod
    def forward(context: Any, own: Tensor, group: Group, sizes: tuple[int, ...]) -> Tensor:
        context.group, context.sizes = group, sizes
        return group.gathered(own, sizes)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        total = gradients[0].clone()
        context.group.add([total])
        start = sum(context.sizes[: context.group.rank])
        return total[start : start + context.sizes[context.group.rank]], None, None
