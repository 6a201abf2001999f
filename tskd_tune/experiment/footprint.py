"""Estimates the memory of a training without allocating memory.

Every part is built from torch's fake tensors, which have shapes but no data, and is run on a batch of the task's size.
The estimate is a lower bound: a refused training cannot fit, but a training that is not refused may still not fit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tskd_tune.contracts import AnyBatch, inputs_of
from tskd_tune.distillers import DISTILLERS, needs_of
from tskd_tune.distillers.base import Need
from tskd_tune.errors import InputError
from tskd_tune.experiment.assembly import method_of, probe_of, review_loss, student_network, teacher_network
from tskd_tune.experiment.schema import Experiment
from tskd_tune.experiment.teacher import trains_a_teacher
from tskd_tune.tasks.base import Task, TaskFacts
from tskd_tune.tasks.stand_ins import stand_in_batch, stand_in_targets
from tskd_tune.teaching.base import Need as MethodNeed
from tskd_tune.teaching.base import method_needs

# Copies in memory: the parameter, the gradient and the momentum.
COPIES = 3
# Below these limits a training fits into any machine, and memory is not measured: values per batch, images per batch or
# classes (some losses compare all with all), and the value of any option.
LARGE_IMAGES, LARGE_BATCH, LARGE_OPTION = 2**26, 2048, 16384
# The same for methods that keep numbers of every training image: the number of training images.
LARGE_SAMPLES = 2**18
# For so many images these methods are built to measure them; no other dimension is likely to have this length.
FEW_SAMPLES = 1009
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Share:
    """The memory of one part of a training.

    Attributes:
        key: the key of the experiment that decides the size.
        what: what needs the memory, in words.
        bytes: the size; None if even the number of values exceeds 64 bits.
        remedy: what to do where the part is the largest of a training that does not fit; null: lower the sizes of the
            key.
    """

    key: str
    what: str
    bytes: int | None
    remedy: str | None = None


def refuse_absurd(experiment: Experiment, task: Task) -> None:
    """Refuse a training that needs more memory than the device has, as far as can be known without allocation.

    Raises:
        InputError: with the part that needs most memory, and the memory of the device.
    """
    memory, facts = memory_of(experiment.training.compute().device), task.facts()
    _, height, width = facts.usual
    what = f"{sum(facts.samples)} images of {height} x {width} pixels take"
    shares = [Share("task", what, task.feeding.bytes_held(facts))]
    _refuse_beyond(shares, memory)
    for kept in kept_of_samples(experiment, task):  # a teacher is trained before its student: one after the other
        _refuse_beyond([*shares, kept], memory)
    if _is_large(experiment, task):
        for share in _shares(experiment, task):
            shares.append(share)
            _refuse_beyond(shares, memory)


def memory_of(device: torch.device) -> int:
    """Return the bytes of memory of a GPU; for the CPU the memory of the machine or the container."""
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
        f" this machine has {_size(memory)}; {largest.remedy or f'lower the sizes under {largest.key}'}"
    )


def _size(count: int | None) -> str:
    return "more than a billion GB" if count is None else f"{count / 1e9:,.1f} GB"


def batch_of(task: Task) -> int:
    """Return the number of images per training batch; the last batch may have fewer, but never only one."""
    return -(-task.facts().samples[0] // task.steps())


def _is_large(experiment: Experiment, task: Task) -> bool:
    """Tell whether the sizes are large enough to measure the memory, which takes seconds."""
    facts, batch, plain = task.facts(), batch_of(task), experiment.plain()
    parts = [plain["student"], plain["distiller"], plain["review"], {**(plain["teacher"] or {}), "training": None}]
    values = batch * math.prod(facts.usual)
    sizes = values > LARGE_IMAGES, batch > LARGE_BATCH, facts.outputs > LARGE_BATCH
    return any(sizes) or any(number > LARGE_OPTION for number in _numbers(parts))


def _numbers(value: object) -> Iterator[int]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


def _shares(experiment: Experiment, task: Task) -> Iterator[Share]:
    """Measure each part without data; parts that cannot be built without data are left out."""
    facts = task.facts()
    size, targets = batch_of(task), stand_in_targets(facts)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        student = _Part("student", "its parameters take", lambda: student_network(experiment, facts))
        yield student.share()
        teacher = None
        if experiment.needs_teacher:
            teacher = _Part("teacher", "its parameters take", lambda: teacher_network(experiment, facts))
            yield teacher.share(copies=1)
        batch = stand_in_batch(facts, size, torch.device("cpu"))
        output = _Part("task.batch_size", f"a batch of {size} images takes", lambda: _run(student, batch))
        yield output.share()
        yield from _of_losses(experiment, _Networks(student, teacher, output), batch, targets, task)


def kept_of_samples(experiment: Experiment, task: Task) -> list[Share]:
    """Return what each method keeps of every training image, such as the banks of CRD, where there are many images.

    The methods are built for `FEW_SAMPLES` images.
    """
    facts, recipe, found = task.facts(), experiment.teacher, []
    if facts.samples[0] < LARGE_SAMPLES or recipe is None or not experiment.needs_teacher:
        return []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.random.fork_rng(devices=[]):
        teacher = teacher_network(experiment, facts)
        method = recipe.training.method
        if trains_a_teacher(experiment) and MethodNeed.INDICES in method_needs(method):
            keeps: nn.Module = method_of(experiment, teacher, facts, FEW_SAMPLES)
            found.append(_kept("teacher.training.method", method.name, keeps, facts))
        probe = probe_of(student_network(experiment, facts), teacher, facts, stand_in_targets(facts))
    if Need.INDICES in needs_of(experiment.distiller):
        with torch.random.fork_rng(devices=[]):  # with real numbers, because negatives are chosen by counting classes
            few = replace(probe, targets=torch.arange(FEW_SAMPLES) % facts.outputs, teacher_norms={})
            keeps = DISTILLERS.make(experiment.distiller, few)
        found.append(_kept("distiller", experiment.distiller.name, keeps, facts))
    return [share for share in found if share.bytes]


def _kept(key: str, name: str, method: nn.Module, facts: TaskFacts) -> Share:
    """Return the size of a method's buffers that have a row for each image."""
    rows = [buffer[0] for buffer in method.buffers() if buffer.ndim and len(buffer) == FEW_SAMPLES]
    samples = facts.samples[0]
    what = f"what '{name}' keeps of each of {samples:,} training images takes"
    remedy = (
        "use fewer images (task.fraction), a device with more memory, another method, or its options if it has some"
    )
    return Share(key, what, samples * sum(row.numel() * row.element_size() for row in rows), remedy)


def _run(network: _Part, batch: AnyBatch) -> object:
    return network.made(*inputs_of(network.made, batch.images, batch))


@dataclass(frozen=True)
class _Networks:
    """The networks and the output from which the losses are built."""

    student: _Part
    teacher: _Part | None
    output: _Part


def _of_losses(
    experiment: Experiment, networks: _Networks, batch: AnyBatch, targets: Tensor, task: Task
) -> Iterator[Share]:
    student, teacher, output = networks.student.made, networks.teacher, networks.output.made
    taught = output if teacher is None else _Part("", "", lambda: _run(teacher, batch)).made
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
    """A part made without data, with its memory: parameters of a module, or results of operations.

    Attributes:
        made: the part; None if the part cannot be made without data.
    """

    def __init__(self, key: str, what: str, make: Callable[[], object]) -> None:
        self.key, self.what = key, what
        self.made: Any = None
        self._endless = False
        operations = _Operations()  # type: ignore[no-untyped-call]
        try:
            with operations:
                self.made = make()
        except Exception as error:  # the part needs data, or has an error that the real build reports
            self._endless = any(word in str(error) for word in ("overflow", "Overflow"))
        self._results = operations.total

    def share(self, copies: int = COPIES) -> Share:
        """Return the memory: ``copies`` times a module's parameters, or half of the results that led to a result."""
        if self._endless:
            return Share(self.key, self.what, None)
        if not isinstance(self.made, nn.Module):
            return Share(self.key, self.what, self._results // 2)
        parameters = sum(parameter.numel() * parameter.element_size() for parameter in self.made.parameters())
        buffers = sum(buffer.numel() * buffer.element_size() for buffer in self.made.buffers())
        return Share(self.key, self.what, copies * parameters + buffers)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of the results of operations; views and in-place results need no memory."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[object] = (), kwargs: object = None
    ) -> object:
        """Run an operation and add the bytes of the results."""
        found = func(*args, **(kwargs if isinstance(kwargs, dict) else {}))
        results = found if isinstance(found, tuple | list) else [found]
        for result, told in zip(results, func._schema.returns, strict=False):
            if isinstance(result, Tensor) and told.alias_info is None:
                self.total += result.numel() * result.element_size()
        return found
