"""NCCL fails while Python goes on: what failed is noticed before a number of it is used."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tskd_tune.errors import LostWorkerError
from tskd_tune.testing.workers import at_once, groups
from tskd_tune.training.group import NCCL_SETTINGS, Group, backend_of


class Exchange:
    """An exchange that has begun, and may fail later, as those of a GPU do."""

    failed = False

    def wait(self) -> bool:
        """Queue the wait; raise if the exchange is known to have failed."""
        if self.failed:
            raise RuntimeError("NCCL communicator was aborted on rank 1")
        return True


class Late:
    """Exchanges that are still under way when they are waited for."""

    def __init__(self) -> None:
        """Nothing has been exchanged."""
        self.begun: list[Exchange] = []

    def allreduce(self, tensors: list[torch.Tensor]) -> Exchange:
        """Begin an exchange."""
        self.begun.append(Exchange())
        return self.begun[-1]

    def allgather(self, found: list[list[torch.Tensor]], own: list[torch.Tensor]) -> Exchange:
        """Begin an exchange."""
        return self.allreduce(own)

    def abort(self) -> None:
        """Fail all that is under way."""
        for one in self.begun:
            one.failed = True


@pytest.mark.parametrize("how", ["add", "gathered"])
def test_an_exchange_that_fails_after_it_was_queued_is_noticed_before_its_numbers_are_used(how: str) -> None:
    backend: Any = Late()
    group = Group(0, 2, backend)
    group.confirm()  # nothing was exchanged yet
    if how == "add":
        group.add([torch.zeros(2)])
    else:
        group.gathered(torch.zeros(2), [2, 2])
    group.confirm()
    backend.abort()
    with pytest.raises(LostWorkerError, match="worker 0 of 2 lost the others"):
        group.confirm()


def test_what_nccl_itself_says_is_in_the_sentence() -> None:
    """Torch puts it behind the path of its own source and advice."""
    told = f"NCCL error in: {'/a/long/path' * 20}, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"

    class Fails(Late):
        def allreduce(self, tensors: list[torch.Tensor]) -> Exchange:
            raise RuntimeError(told)

    backend: Any = Fails()
    with pytest.raises(LostWorkerError, match=r"for them \(Cuda failure 2 'out of memory'\)"):
        Group(0, 2, backend).add([torch.zeros(2)])


def test_a_worker_that_has_left_confirms_nothing() -> None:
    backend: Any = Late()
    group = Group(0, 2, backend)
    group.leave()
    with pytest.raises(LostWorkerError, match="has left the group"):
        group.confirm()


def test_exchanges_on_cpus_are_confirmed() -> None:
    def exchanged(group: Group) -> float:
        value = torch.ones(1)
        group.add([value])
        group.confirm()
        group.confirm()
        return float(value)

    workers = groups()
    assert at_once([lambda group=group: exchanged(group) for group in workers]) == [2.0, 2.0]  # type: ignore[misc]


def test_the_watch_over_nccl_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the user wants it to."""
    for name in NCCL_SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is as before when the test ends
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_NCCL_RETHROW_CUDA_ERRORS", "1")
    seen: dict[str, str] = {}

    class Nccl:
        class Options:
            _timeout = None

        def __init__(self, *_: object) -> None:
            seen.update({name: os.environ[name] for name in NCCL_SETTINGS})

    monkeypatch.setattr(dist, "ProcessGroupNCCL", Nccl)
    store: Any = None
    backend_of(store, 0, 2, torch.device("cuda"), 60.0)
    assert seen == {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "2", "TORCH_NCCL_RETHROW_CUDA_ERRORS": "1"}
