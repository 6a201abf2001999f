"""What runs on the stand-in for CUDA, in a process of its own: trainings, and steps that a capture forbids.

``python inside.py GIVEN FOUND`` reads cases from a JSON file and writes what was found to another one. No number is
looked at: kernels compute nothing, and what is read from the GPU is zero.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cuda_stub.building import REPORT
from torch import Tensor

from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.capture import CudaCapture
from tskd_tune.training.compute import Compute
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.lockstep import advance


@dataclass
class Found:
    """What a case came to.

    Attributes:
        engines: the engine of each training, by name.
        reason: why the first training's engine is what it is.
        kinds: the kinds of steps that each training has captured, as they are printed.
        inexact: the operations of the first training without a deterministic algorithm.
        epochs: how many epochs each training has trained.
        refused: what the stand-in has refused.
        captured: the captures, as the stand-in describes them.
        error: the error that ended the case.
    """

    engines: list[str] = field(default_factory=list)
    reason: str = ""
    kinds: list[list[str]] = field(default_factory=list)
    inexact: list[str] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    captured: list[str] = field(default_factory=list)
    error: str = ""


def trained(found: Found, experiments: list[dict[str, Any]]) -> None:
    """Train experiments side by side, to their ends."""
    trainers = [build_trainer(Experiment.read(document)) for document in experiments]
    while not trainers[0].finished:
        for result in advance(trainers):
            if isinstance(result, BaseException):
                raise result
    engines = [trainer.engine for trainer in trainers]
    found.engines = [engine.name for engine in engines]
    found.reason = engines[0].reason
    found.inexact = list(engines[0].inexact)
    found.epochs = [len(trainer.history) for trainer in trainers]
    found.kinds = [captured_kinds(engine) for engine in engines if isinstance(engine, GraphEngine)]


def captured_kinds(engine: GraphEngine[Any]) -> list[str]:
    """Return the kinds of steps that an engine has captured, as they are printed."""
    keys: Any = engine._captured  # the feed, the kind, and the signature of the draw
    return sorted(str(kind) for _, kind, _ in keys)


def in_a_stream(given: Tensor, joins: bool) -> None:
    """Work in a stream beside the captured one."""
    own, side = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(own)
    with torch.cuda.stream(side):
        given.add_(1)
    if joins:
        own.wait_stream(side)


def in_the_default_stream(given: Tensor) -> None:
    """Work in the default stream."""
    with torch.cuda.stream(torch.cuda.default_stream()):
        given.add_(1)


def from_outside(given: Tensor) -> None:
    """Wait for a stream that does not belong to the capture."""
    torch.cuda.current_stream().wait_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]


def fresh_memory(given: Tensor) -> None:
    """Take memory, past torch's allocator."""
    assert given.is_cuda
    ctypes.CDLL(None).cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(512))


STEPS: dict[str, Callable[[Tensor], object]] = {
    "a value": lambda given: given.sum().item(),
    "a copy from the CPU": lambda given: given.copy_(torch.ones(3)),
    "a copy to the CPU": lambda given: given.cpu(),
    "a copy from pinned memory": lambda given: given.copy_(torch.ones(3).pin_memory(), non_blocking=True),
    "memory that is not torch's": fresh_memory,
    "a stream that does not join": lambda given: in_a_stream(given, joins=False),
    "the default stream": in_the_default_stream,
    "a stream outside of the capture": from_outside,
    "a wait for the GPU": lambda given: torch.cuda.synchronize(),
    "a question to the stream": lambda given: torch.cuda.current_stream().query(),
    "a wait for the stream": lambda given: torch.cuda.current_stream().synchronize(),
    # What is allowed comes last, so what was refused before has left nothing behind.
    "a stream that joins": lambda given: in_a_stream(given, joins=True),
    "new tensors": lambda given: (given + torch.ones(3, device="cuda")).sum(),
}


def take(step: str, given: Tensor) -> None:
    """Take a step and let go what it returns."""
    STEPS[step](given)


def captured(found: Found, step: str) -> None:
    """Capture a step and take it again, as a training does."""
    given = torch.zeros(3, device="cuda")
    compute = Compute.choose("cuda", "float32", False, None).with_own_stream()
    again = CudaCapture(compute)(partial(take, step, given), [])
    again()
    found.kinds = [[step]]


@contextmanager
def reported(found: Found) -> Iterator[None]:
    """Read what the stand-in reports while the block lasts."""
    report = Path(os.environ[REPORT])
    report.touch()
    before = len(report.read_text())
    yield
    for line in report.read_text()[before:].splitlines():
        word, _, rest = line.partition(": ")
        {"refused": found.refused, "captured": found.captured}[word].append(rest)


def main(given: str, into: str) -> None:
    """Go through the cases: each names experiments to train side by side, or a step to capture."""
    torch.backends.cudnn.enabled = False  # its functions are not part of the stand-in
    results: dict[str, Any] = {}
    for label, case in json.loads(Path(given).read_text()).items():
        found = Found()
        with reported(found):
            try:
                if isinstance(case, str):
                    captured(found, case)
                else:
                    trained(found, case)
            except Exception as error:
                found.error = f"{type(error).__name__}: {error}"
                if not isinstance(error, RunError) or not isinstance(case, str):
                    found.error += f"\n{traceback.format_exc()}"
        results[label] = asdict(found)
        Path(into).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
