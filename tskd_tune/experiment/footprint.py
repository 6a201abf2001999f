"""What a training needs in memory, found on tensors without data before anything is allocated.

Every part is built of torch's fake tensors, which have shapes only, and a batch of the task's size goes through it. It
is a bound for refusing what can never fit, not a forecast: a training that is not refused may still not fit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tskd_tune.contracts import Batch
from tskd_tune.distillers import DISTILLERS
from tskd_tune.errors import InputError
from tskd_tune.experiment.assembly import probe_of, review_loss, student_network, teacher_network
from tskd_tune.experiment.schema import Experiment
from tskd_tune.tasks.base import Task, stand_in_targets

# A parameter, its gradient and its momentum.
COPIES = 3
# Below these a training fits into any machine, and is not measured: values of a batch, images of a batch or classes
# (of which some losses compare all with all), and the value of any option.
LARGE_IMAGES, LARGE_BATCH, LARGE_OPTION = 2**26, 2048, 16384
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Share:
    """What one part of a training needs.

    Attributes:
        key: the key of the experiment that decides it.
        what: what needs the memory, in words.
        bytes: how much; None where even the number of values leaves 64 bits.
    """

    key: str
    what: str
    bytes: int | None


def refuse_absurd(experiment: Experiment, task: Task) -> None:
    """Refuse a training that needs more memory than its device has, in all that can be told without allocating.

    Raises:
        InputError: with what needs most, and the memory that there is.
    """
    memory, facts = memory_of(experiment.training.compute().device), task.facts()
    _, height, width = facts.inputs
    what = f"{sum(facts.samples)} images of {height} x {width} pixels take"
    shares = [Share("task", what, task.feeding.bytes_held(facts))]
    _refuse_beyond(shares, memory)
    if _is_large(experiment, task):
        for share in _shares(experiment, task):
            shares.append(share)
            _refuse_beyond(shares, memory)


def memory_of(device: torch.device) -> int:
    """Return the bytes of a device's memory: of a GPU its own, else what this machine or its container has."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in LIMITS:
        text = file.read_text().strip() if file.exists() else ""
        found += [int(text)] if text.isdecimal() else []
    return min(found)


def _refuse_beyond(shares: list[Share], memory: int) -> None:
    sizes = [share.bytes for share in shares if share.bytes is not None]
    if len(sizes) == len(shares) and sum(sizes) <= memory:
        return
    largest = max(shares, key=lambda share: float("inf") if share.bytes is None else share.bytes)
    total = sum(sizes) if len(sizes) == len(shares) else None
    raise InputError(
        f"{largest.key}: {largest.what} {_size(largest.bytes)}; a training needs about {_size(total)} of memory, but"
        f" this machine has {_size(memory)}; lower the sizes under {largest.key}"
    )


def _size(count: int | None) -> str:
    return "more than a billion GB" if count is None else f"{count / 1e9:,.1f} GB"


def batch_of(task: Task) -> int:
    """Return how many images a batch of the training part has; the last one may have fewer, but never only one."""
    return -(-task.facts().samples[0] // task.steps())


def _is_large(experiment: Experiment, task: Task) -> bool:
    """Tell whether sizes are such that they have to be measured, which takes seconds."""
    facts, batch, plain = task.facts(), batch_of(task), experiment.plain()
    parts = [plain["student"], plain["distiller"], plain["review"], {**(plain["teacher"] or {}), "training": None}]
    values = batch * math.prod(facts.inputs)
    sizes = values > LARGE_IMAGES, batch > LARGE_BATCH, facts.outputs > LARGE_BATCH
    return any(sizes) or any(number > LARGE_OPTION for number in _numbers(parts))


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


def _shares(experiment: Experiment, task: Task) -> Iterator[Share]:
    """Measure one part after the other without data; what cannot be built so is left out."""
    facts = task.facts()
    size, targets = batch_of(task), stand_in_targets(facts)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        student = _Part("student", "its parameters take", lambda: student_network(experiment, facts))
        yield student.share()
        teacher = None
        if experiment.needs_teacher:
            teacher = _Part("teacher", "its parameters take", lambda: teacher_network(experiment, facts))
            yield teacher.share(copies=1)
        images = torch.zeros(size, *facts.inputs)
        batch = Batch(images, *(torch.zeros(size, dtype=torch.long) for _ in range(2)))
        output = _Part("task.batch_size", f"a batch of {size} images takes", lambda: student.made(batch.images))
        yield output.share()
        yield from _of_losses(experiment, _Networks(student, teacher, output), batch, targets, task)


@dataclass(frozen=True)
class _Networks:
    """What the losses are built from."""

    student: _Part
    teacher: _Part | None
    output: _Part


def _of_losses(
    experiment: Experiment, networks: _Networks, batch: Batch, targets: Tensor, task: Task
) -> Iterator[Share]:
    student, teacher, output = networks.student.made, networks.teacher, networks.output.made
    taught = output if teacher is None else _Part("", "", lambda: teacher.made(batch.images)).made
    probe = _Part("", "", lambda: probe_of(student, None if teacher is None else teacher.made, task.facts(), targets))
    distiller = _Part("distiller", "its parameters take", lambda: DISTILLERS.make(experiment.distiller, probe.made))
    yield distiller.share()
    if getattr(distiller.made, "needs", None):
        what = f"the loss of '{experiment.distiller.name}' takes"
        yield _Part("task.batch_size", what, lambda: distiller.made(output, taught, batch)).share()
    review = experiment.review
    if review is not None:
        snapshot = networks.student.share(copies=1).bytes
        yield Share("review.k", "the snapshots take", None if snapshot is None else review.k * snapshot)
        extractor = _Part("review.extractor", "its parameters take", lambda: review_loss(review, probe.made))
        yield extractor.share()


class _Part:
    """A part that is made without data, with what it needs: parameters of a module, the results of operations.

    Attributes:
        made: the part; None where it cannot be made so.
    """

    def __init__(self, key: str, what: str, make: Callable[[], object]) -> None:
        self.key, self.what = key, what
        self.made: Any = None
        self._endless = False
        operations = _Operations()  # type: ignore[no-untyped-call]
        try:
            with operations:
                self.made = make()
        except Exception as error:  # what has no meaning without data, or is told where the part is built in earnest
            self._endless = any(word in str(error) for word in ("overflow", "Overflow"))
        self._results = operations.total

    def share(self, copies: int = COPIES) -> Share:
        """Return what it needs: a module so many copies of its parameters, a result half of what led to it."""
        if self._endless:
            return Share(self.key, self.what, None)
        if not isinstance(self.made, nn.Module):
            return Share(self.key, self.what, self._results // 2)
        parameters = sum(parameter.numel() * parameter.element_size() for parameter in self.made.parameters())
        buffers = sum(buffer.numel() * buffer.element_size() for buffer in self.made.buffers())
        return Share(self.key, self.what, copies * parameters + buffers)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of what operations give; views, and results in place, need nothing."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        """Run an operation and count its results."""
        found = func(*args, **(kwargs if isinstance(kwargs, dict) else {}))
        results = found if isinstance(found, tuple | list) else [found]
        for result, told in zip(results, func._schema.returns, strict=False):
            if isinstance(result, Tensor) and told.alias_info is None:
                self.total += result.numel() * result.element_size()
        return found
