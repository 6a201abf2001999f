"""What a capture asks of CUDA, with stand-ins for torch's graphs: no GPU is needed. See also test_gpu.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tskd_tune.errors import DivergedError, RunError
from tskd_tune.training.capture import CudaCapture
from tskd_tune.training.compute import Compute

CPU = Compute.choose("cpu", "float32", False, None)


class Graph:
    """A graph that replays nothing."""

    def replay(self) -> None:
        """Do nothing."""


class Cuda:
    """Stands for torch.cuda.

    Attributes:
        pools: the pool of each capture, in order.
        done: the captures, and when the workspaces of cuBLAS were let go, in order.
        ends_badly: whether the end of a capture fails when an error came within it, as CUDA's does with open branches.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pools: list[object] = []
        self.done: list[str] = []
        self.ends_badly = True
        numbers = itertools.count()
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(numbers))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        lets_go = lambda: self.done.append("workspaces")  # noqa: E731
        monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lets_go, raising=False)

    @contextmanager
    def graph(self, graph: Graph, *, pool: object, **_: object) -> Iterator[None]:
        self.pools.append(pool)
        self.done.append("capture")
        try:
            yield
        except BaseException:
            if self.ends_badly:
                raise RuntimeError("CUDA error: capturing stream has unjoined work") from None
            raise


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return Cuda(monkeypatch)


def test_a_graph_shares_no_workspace_of_cublas_with_other_work(cuda: Cuda) -> None:
    CudaCapture(CPU)(lambda: None, ())
    assert cuda.done == ["workspaces", "capture", "workspaces"]


def test_graphs_share_a_pool_while_one_of_them_lives(cuda: Cuda) -> None:
    # torch asserts that a pool which is used again belongs to a graph that lives.
    capture = CudaCapture(CPU)
    graphs = [capture(lambda: None, ()) for _ in range(2)]
    assert cuda.pools[0] == cuda.pools[1]
    graphs.clear()
    capture(lambda: None, ())
    assert cuda.pools[2] != cuda.pools[0]


@pytest.mark.parametrize("ends_badly", [True, False])
@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, DivergedError, KeyError])
def test_too_little_memory_and_what_is_no_error_of_cuda_are_raised_as_they_are(
    cuda: Cuda, kind: type[Exception], ends_badly: bool
) -> None:
    error = kind("the first")

    def fail() -> None:
        raise error

    cuda.ends_badly = ends_badly
    with pytest.raises(kind) as raised:
        CudaCapture(CPU)(fail, ())
    assert raised.value is error


def test_the_first_error_of_a_capture_is_named(cuda: Cuda) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    with pytest.raises(RunError, match=r"could not be captured.*operation not permitted"):
        CudaCapture(CPU)(fail, ())
