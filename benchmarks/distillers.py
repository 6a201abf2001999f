"""Compares a step of every distiller with a step of plain training: seconds and peak memory.

The seconds are measured in turns in one process. The peak memory of each distiller is measured in a separate process.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from rich.table import Table
from torch import Tensor

from tskd_tune.contracts import Batch
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.metrics import Part
from tskd_tune.plain import Json
from tskd_tune.tasks.base import Draw, Feed, Feeding, Source, Streams, TaskFacts
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record
from tskd_tune.training.trainer import Trainer

PLAIN = "none"
MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """The measured training: networks, synthetic images of 32 x 32 in 100 classes, steps per round, CPU threads."""

    teacher: str
    student: str
    samples: int
    batch_size: int
    steps: int
    threads: int

    def trainer(self, distiller: str) -> Trainer:
        """Build the training of a distiller with an untrained teacher and ``steps`` batches per epoch."""
        sizes = {"batch_size": self.batch_size, "train": self.samples, "classes": 100, "size": 32, "test": 1}
        experiment = Experiment.read(
            {
                "task": {"name": "synthetic", **sizes},
                "teacher": self.teacher,
                "student": self.student,
                "distiller": distiller,
                "review": None,
                "training": {"threads": self.threads, "lr": 1e-4},
            }
        )
        task = task_of(experiment)
        short = replace(task, feeding=Shortened(task.feeding, self.steps))
        feed = short.training(experiment.training.compute().device)
        return assemble(experiment, short, teacher_network(experiment, task.facts()), feed.targets)


@dataclass(frozen=True)
class Cost:
    """The cost of a distiller: seconds per step and peak bytes, and both divided by the values of plain training.

    Attributes:
        bytes: on a GPU, the peak GPU memory of the tensors; on a CPU, the peak memory of the process minus its memory
            at the start.
    """

    name: str
    seconds: float
    time_ratio: float
    bytes: int
    memory_ratio: float


def measure(setting: Setting, names: Sequence[str], rounds: int) -> list[Cost]:
    """Measure plain training and every named distiller; the seconds are the median of the rounds."""
    every = [PLAIN, *(name for name in names if name != PLAIN)]
    peaks = {name: in_a_process(_peak_bytes, setting, name) for name in every}
    seconds = _seconds(setting, every, rounds)
    return [
        Cost(name, seconds[name], seconds[name] / seconds[PLAIN], peaks[name], peaks[name] / peaks[PLAIN])
        for name in every
    ]


def table(setting: Setting, costs: Sequence[Cost]) -> Table:
    """Return the costs as a table for a terminal."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {setting.threads} thread(s)"
    return costs_of(f"{setting.student} under {setting.teacher}, {setting.batch_size} images a step, {device}", costs)


def costs_of(title: str, costs: Sequence[Cost]) -> Table:
    """Return a table of costs with this title."""
    shown = Table(title=title)
    for heading in ("distiller", "ms a step", "time", "peak MiB", "memory"):
        shown.add_column(heading, justify="left" if heading == "distiller" else "right")
    for cost in costs:
        figures = (f"{1000 * cost.seconds:.1f}", f"{cost.time_ratio:.2f} x", f"{cost.bytes / MIB:.0f}")
        shown.add_row(cost.name, *figures, f"{cost.memory_ratio:.2f} x")
    return shown


def _seconds(setting: Setting, names: Sequence[str], rounds: int) -> dict[str, float]:
    """Return the median seconds per step. Each round measures all distillers; the first round is a warm-up."""
    trainers = [setting.trainer(name) for name in names]
    clocks = {name: _Clock() for name in names}
    for trainer, clock in zip(trainers, clocks.values(), strict=True):
        trainer.observers.append(clock)
    for _ in range(rounds + 1):
        for trainer in trainers:
            trainer.epoch()
    return {name: median(clock.epochs[1:]) / setting.steps for name, clock in clocks.items()}


class _Clock(Observer):
    """Notes the seconds of each epoch's steps."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def recorded(self, training: Training, record: Record) -> None:
        """Note the seconds of an epoch."""
        self.epochs.append(record.seconds)


def in_a_process(function: Callable[[T, str], int], setting: T, name: str) -> int:
    """Call the function in a new process, so no earlier code has used its memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, setting, name).result()


def _peak_bytes(setting: Setting, name: str) -> int:
    before = peak_resident()
    trainer = setting.trainer(name)
    gc.collect()
    forget_peak()  # the peak while the images were made
    for _ in range(2):
        trainer.epoch()
    on_gpu = trainer.compute.peak_memory()
    return on_gpu if on_gpu is not None else peak_resident() - before


def peak_resident() -> int:
    """Return the peak memory of this process in bytes. On Linux, getrusage would include the parent's peak."""
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Reset the peak to the present memory, if the system supports this."""
    if CLEAR.exists():
        CLEAR.write_text(RESET_PEAK)


@dataclass(frozen=True)
class Shortened(Feeding):
    """A feeding whose epochs end after a number of steps, and whose evaluations have no batches."""

    whole: Feeding
    shown: int

    def steps(self, samples: int) -> int:
        """Return the steps of a shortened epoch."""
        return self.shown

    def training(self, source: Source, device: torch.device) -> Feed:
        """Open the first batches of every epoch."""
        return First(self.whole.training(source, device), self.shown)

    def evaluation(self, source: Source, part: Part, device: torch.device) -> Feed:
        """Return a feed without batches."""
        return First(self.whole.evaluation(source, part, device), 0)

    def bytes_held(self, facts: TaskFacts) -> int:
        """Return the value of the whole feeding."""
        return self.whole.bytes_held(facts)

    def identity(self) -> Mapping[str, Json]:
        """Return the value of the whole feeding."""
        return self.whole.identity()


@dataclass(frozen=True)
class First(Feed):
    """The first batches of another feed."""

    feed: Feed
    shown: int

    @property
    def targets(self) -> Tensor:
        """The class of every training sample ``[N]``."""
        return self.feed.targets

    def steps(self) -> int:
        """Return the number of batches."""
        return self.shown

    def draws(self, streams: Streams | None = None, start: int = 0) -> Iterator[Draw]:
        """Return the first draws."""
        return islice(self.feed.draws(streams, start), self.shown - start)

    def batch(self, draw: Draw) -> Batch:
        """Make the batch of a draw."""
        return self.feed.batch(draw)
