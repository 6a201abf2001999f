"""The suite ``platform``: what a sweep costs beside its trainings, measured by trials that sleep.

The trials go through the whole platform: `tskd_tune.sweep` with Ray Tune, `SweepTrial`, `Recorder`, histories, rows,
checkpoints and the report. What they train is a linear classifier whose step sleeps. An observer reads the clocks at
the beginning and at the end of each epoch in the worker, so everything between the end of one epoch and the beginning
of the next one is the platform's: the record, the report to the driver, the driver's work, and Ray's way there and
back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

import tskd_tune
from benchmarks.environment import ROOT
from benchmarks.exactness import ExactnessError
from benchmarks.rows import Goal, Report, Row, Spent
from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Event
from tskd_tune.sweeps import run as sweeping

TRIALS, SECONDS, CONCURRENT = 24, 60.0, 1
"""The sweep of the goal: so many trials of so many seconds, one after the other."""
LIMIT, FURTHER, REPORT_MS = 1.02, 0.3, 1.0
"""The goals: the whole over the bare time, seconds of each further trial, milliseconds of each reported epoch."""
EPOCH, CHECKPOINTS = 0.5, 2
"""Seconds of an epoch, and checkpoints of a trial, in the extrapolated sweep."""


@dataclass(frozen=True)
class Setting:
    """A sweep of trials that sleep.

    Attributes:
        trials: the number of trials.
        epochs: the epochs of a trial.
        seconds: how long an epoch sleeps.
        checkpoint: seconds between checkpoints.
        searched: whether a searcher chooses the trials and asha compares them; otherwise they are a grid's.
    """

    trials: int
    epochs: int
    seconds: float
    checkpoint: float = 30.0
    searched: bool = False

    def document(self) -> Document:
        """Return the sweep as plain data: one trial at a time, on one core."""
        data = {"name": "synthetic", "batch_size": 8, "size": 8, "train": 8, "validation": 8, "test": 8}
        often = {"checkpoint": {"seconds": self.checkpoint}}
        experiment = {
            "task": data,
            "teacher": None,
            "student": {"name": "benchmarks.naps:Sleeper", "seconds": self.seconds},
            "distiller": "none",
            "review": None,
            "observe": [{"name": "benchmarks.naps:Clocks"}],
            "training": {"epochs": self.epochs, "lr": 0.01, "device": "cpu", **often},
        }
        resources = {"cpu": 1, "gpu": 0, "concurrent": CONCURRENT}
        if self.searched:
            drawn = documents.merge(experiment, {"training": {"lr": {"uniform": [0.01, 0.02]}}})
            search = {"name": "random", "trials": self.trials}
            return {"experiment": drawn, "seeds": [1], "search": search, "scheduler": "asha", "resources": resources}
        seeds = list(range(1, self.trials + 1))
        return {"experiment": experiment, "seeds": seeds, "search": {"name": "grid"}, "resources": resources}


@dataclass(frozen=True)
class Epoch:
    """An epoch of a trial: the clocks of its worker at its beginning and at its end."""

    trial: str
    begun: Spent
    ended: Spent
    loss: float


@dataclass(frozen=True)
class Course:
    """A sweep that ran.

    Attributes:
        setting: what ran.
        epochs: its epochs, in their order.
        driver_cpu: CPU seconds of the driver for each epoch.
        span: seconds from the beginning of the first epoch until the row of the last trial was written.
    """

    setting: Setting
    epochs: Sequence[Epoch]
    driver_cpu: float
    span: float

    @property
    def bare(self) -> float:
        """The seconds of the epochs themselves."""
        return sum(epoch.ended.wall - epoch.begun.wall for epoch in self.epochs)

    def between(self, *, trials: bool) -> list[Spent]:
        """Return what passed between successive epochs: of the same trial, or of two trials."""
        pairs = [pair for pair in pairwise(self.epochs) if (pair[0].trial != pair[1].trial) == trials]
        return [after.begun + before.ended * -1 for before, after in pairs]

    def reported(self) -> Spent:
        """Return the mean of what passes between two epochs of a trial; epochs that share a report share its cost."""
        found = self.between(trials=False)
        return sum(found, Spent(0.0, 0.0)) * (1 / len(found))


def course(setting: Setting, folder: Path, name: str, *, track: bool = False) -> Course:
    """Run a sweep and read the clocks; ``track``: with W&B."""
    heard: list[tuple[float, float, Event]] = []

    def listener(event: Event) -> None:
        heard.append((time.time(), time.process_time(), event))

    tskd_tune.sweep(setting.document(), name, storage=folder, listener=listener, track=track)
    told = [(at, event) for at, _, event in heard if event.what == "epoch"]
    epochs = [_epoch(event) for _, event in told]
    cpu = [cpu for _, cpu, event in heard if event.what == "epoch"]
    driver = (cpu[-1] - cpu[0]) / (len(cpu) - 1)
    last = max(at for at, _, event in heard if event.what in ("epoch", "finished"))
    return Course(setting, epochs, driver, last - epochs[0].begun.wall)


def _epoch(event: Event) -> Epoch:
    def number(name: str) -> float:
        value = (event.metrics or {})[name]
        assert isinstance(value, float)
        return value

    begun, ended = (Spent(number(f"wall_{at}"), number(f"cpu_{at}")) for at in ("begun", "ended"))
    return Epoch(str(event.run), begun, ended, number("loss"))


def run(device: torch.device, *, quick: bool) -> Report:
    """Measure the platform; the device does not matter, because the trials compute next to nothing."""
    from tskd_tune.sweeps.on_ray.ray_session import session

    let_workers_import()
    repeats = 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="platform-") as name:
        folder = Path(name)
        with session(folder / "ray"):
            course(Setting(2, 5, 0.01), folder, "warm-up")
            usual = [course(Setting(3, 8, EPOCH), folder, f"usual-{one}") for one in range(repeats)]
            searched = [
                course(Setting(6, 40, 0.02, searched=True), folder, f"searched-{one}") for one in range(repeats)
            ]
            with each_epoch_alone():
                by_itself = [course(Setting(3, 40, 0.02), folder, f"by-itself-{one}") for one in range(repeats)]
                often = course(Setting(2, 40, 0.02, checkpoint=0.0), folder, "often")
    _refuse_other_numbers(by_itself[-1])
    return _report(usual, searched, by_itself, often)


def let_workers_import() -> None:
    """Let the processes of Ray import the benchmarks, wherever the command was started."""
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([known] if known else [])])


@contextmanager
def each_epoch_alone() -> Iterator[None]:
    """Let trials report each epoch by itself, as where a scheduler compares them after every epoch."""
    before = sweeping.REPORT_SECONDS
    sweeping.REPORT_SECONDS = 0.0
    try:
        yield
    finally:
        sweeping.REPORT_SECONDS = before


def _refuse_other_numbers(of: Course) -> None:
    """Refuse a platform that changes a number: the last trial is trained again without it.

    Raises:
        ExactnessError: the losses differ.
    """
    document, seed = of.setting.document(), of.setting.trials
    trainer = build_trainer(Experiment.read({**document["experiment"], "seed": seed}))
    alone = [trainer.epoch().numbers["loss"] for _ in range(of.setting.epochs)]
    found = [epoch.loss for epoch in of.epochs[-of.setting.epochs :]]
    if alone != found:
        raise ExactnessError(f"platform: a training alone has the losses {alone}, and in a sweep {found}")


def _report(usual: Sequence[Course], searched: Sequence[Course], by_itself: Sequence[Course], often: Course) -> Report:
    together, asked, alone = (_middle([one.reported() for one in of]) for of in (usual, searched, by_itself))
    further = _middle([gap for one in [*usual, *by_itself] for gap in one.between(trials=True)])
    checkpoint = max(0.0, often.reported().wall - alone.wall)
    tax = Tax(together.wall, further.wall, checkpoint)
    epoch = _middle([epoch.ended + epoch.begun * -1 for one in usual for epoch in one.epochs])
    trial = epoch * (SECONDS / EPOCH)
    reported = Goal("ms a reported epoch", 1000 * together.wall, REPORT_MS, at_least=False)
    at_rungs = Goal("ms a reported epoch of a search with asha", 1000 * asked.wall, REPORT_MS, at_least=False)
    single = Goal("ms an epoch that is reported by itself", 1000 * alone.wall, REPORT_MS, at_least=False)
    again = Goal("s a further trial", further.wall, FURTHER, at_least=False)
    whole = Goal(f"{TRIALS} trials of {SECONDS:g} s over their bare time", tax.ratio, LIMIT, at_least=False)
    courses = ((usual, together), (searched, asked), (by_itself, alone))
    more, more_asked, more_alone = (
        {"driver_cpu_ms": 1000 * median(one.driver_cpu for one in of), "trial_cpu_ms": 1000 * spent.cpu}
        for of, spent in courses
    )
    rows = (
        _row("an epoch of half a second, in a grid", "epoch", (epoch, together), reported, more),
        _row("the same, in a search with asha", "epoch", (epoch, asked), at_rungs, more_asked),
        _row("the same, compared after every epoch", "epoch", (epoch, alone), single, more_alone),
        _row("a trial of 60 s after another", "trial", (trial, further), again, {}),
        _row(f"{TRIALS} trials", "sweep", (trial * TRIALS, Spent(tax.seconds, 0.0)), whole, {}),
    )
    spans = ", ".join(f"{one.span:.2f} s for {one.bare:.2f} s ({one.span / one.bare:.4f})" for one in usual)
    measured = f"measured as they are, from the first epoch to the last row, trials of {8 * EPOCH:g} s: {spans}"
    return Report(rows, notes=(HOW, measured, str(tax)))


HOW = (
    "how: tskd_tune.sweep with Ray Tune, one trial at a time, W&B off; what lies between the end of an epoch and the"
    " beginning of the next one, both read by an observer in the worker. The starts of Ray and of the first worker are"
    " left out"
)


@dataclass(frozen=True)
class Tax:
    """Seconds that the platform adds: to each epoch, to each further trial, and to each checkpoint."""

    epoch: float
    trial: float
    checkpoint: float

    @property
    def seconds(self) -> float:
        """What it adds to the sweep of the goal."""
        epochs = TRIALS * (SECONDS / EPOCH - 1) * self.epoch
        return epochs + (TRIALS - 1) * self.trial + TRIALS * CHECKPOINTS * self.checkpoint

    @property
    def ratio(self) -> float:
        """The time of the sweep over its bare time."""
        return (TRIALS * SECONDS + self.seconds) / (TRIALS * SECONDS)

    def __str__(self) -> str:
        bare = TRIALS * SECONDS
        return (
            f"extrapolated: {TRIALS} x {SECONDS:g} s = {bare:g} s bare; {TRIALS} x {SECONDS / EPOCH - 1:g} epochs x"
            f" {1000 * self.epoch:.3f} ms + {TRIALS - 1} x {self.trial:.3f} s + {TRIALS} x {CHECKPOINTS} checkpoints x"
            f" {1000 * self.checkpoint:.2f} ms = {self.seconds:.2f} s; ({bare:g} + {self.seconds:.2f}) / {bare:g} ="
            f" {self.ratio:.4f}"
        )


def _row(name: str, unit: str, times: tuple[Spent, Spent], goal: Goal, more: Mapping[str, float]) -> Row:
    """Return a figure from the bare time and what the platform adds to it."""
    bare, tax = times
    return Row(
        suite="platform",
        name=name,
        device="cpu",
        precision="float32",
        layout="NCHW",
        unit=unit,
        clock="wall",
        ours=bare + tax,
        reference=bare,
        exactness="bitwise",
        compared="the losses of a trial of the sweep and of the same training alone",
        goals=(goal,),
        more={"tax_ms": 1000 * tax.wall, **more},
    )


def _middle(of: Sequence[Spent]) -> Spent:
    return Spent.median(of)
