"""Compares a step of every method on a detector with a step of plain training: CPU seconds and peak memory.

The methods take turns in one process, and the ratio of the times is that of CPU seconds on a CPU. The peak memory of
each method is measured in a separate process.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from rich.table import Table

from benchmarks.contenders import StepClock
from benchmarks.distillers import PLAIN, Cost, costs_of, forget_peak, in_a_process, peak_resident
from benchmarks.workload import disturbed
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, teacher_network
from tskd_tune.testing.small_detector import small_detection
from tskd_tune.training.trainer import Trainer

K, STEPS = 3, 3
"""Snapshots; the noise that tells them apart; steps of a round, the first of which is not timed: it is a look."""
LEVELS = ["fpn0", "fpn1", "fpn2", "fpn3", "fpn_pool"]
REVIEW_KD: Mapping[str, object] = {"name": "review_kd", "stages": LEVELS, "warmup": 0}


@dataclass(frozen=True)
class Method:
    """What is trained beside the detector's own losses.

    Attributes:
        distiller: the distiller with its options.
        reviews: whether each step reviews: TSKD in its review epochs, on the stages of the backbone.
    """

    distiller: Mapping[str, object]
    reviews: bool = False


METHODS = {
    PLAIN: Method({"name": "none"}),
    "detection_kd": Method({"name": "detection_kd"}),
    "fitnet": Method({"name": "fitnet"}),
    "fgfi": Method({"name": "fgfi", "warmup": 0}),
    "review_kd": Method(REVIEW_KD),
    "tskd, a review": Method({"name": "none"}, reviews=True),
    "review_kd + tskd, a review": Method(REVIEW_KD, reviews=True),
}


@dataclass(frozen=True)
class Setting:
    """The measured training: two detectors, two made-up images of different sizes a step.

    Attributes:
        teacher: the teacher's network, with random weights.
        student: the student's network.
        side: the longer side of the larger image, in pixels.
        width: channels of both pyramids; the layers of the box heads have 4 times as many neurons.
        threads: CPU threads.
        device: ``cpu`` or ``cuda``.
    """

    teacher: str
    student: str
    side: int
    width: int
    threads: int
    device: str

    def trainer(self, name: str) -> Trainer:
        """Build the training of a method, whose snapshots differ."""
        method = METHODS[name]
        size = {"pyramid_width": self.width, "head_width": 4 * self.width, "regions": 64}
        size |= {"train_proposals": 200, "test_proposals": 100}
        experiment = Experiment.read(
            {
                "task": {"name": "synthetic"},  # stands for the task below, which has no name
                "teacher": {"name": self.teacher, **size},
                "student": {"name": self.student, **size},
                "distiller": method.distiller,
                "review": {"k": K, "delta": 1, "lambda": 0.4, "plan": {"cycle": "sliding"}} if method.reviews else None,
                "training": {"threads": self.threads, "lr": 1e-5, "device": self.device, "epochs": 1000},
                "evaluation": {"test": "never"},
            }
        )
        sizes = torch.tensor([[3 * self.side // 4, self.side], [self.side // 2, 3 * self.side // 4]])
        task = small_detection(sizes, STEPS)
        teacher = teacher_network(experiment, task.facts())
        trainer = assemble(experiment, task, teacher, torch.zeros(0, dtype=torch.long))  # type: ignore[arg-type]
        if trainer.review is not None:
            for number in range(K):
                trainer.review.memory.memorize(disturbed(trainer.student, number))
        return trainer


def measure(setting: Setting, rounds: int) -> list[Cost]:
    """Measure each method; the seconds are the median of the rounds, after one that is not timed."""
    peaks = {name: in_a_process(_peak_bytes, setting, name) for name in METHODS}
    trainers = {name: setting.trainer(name) for name in METHODS}
    spent: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(1 + rounds):
        for name, trainer in trainers.items():
            spent[name].append(_seconds(trainer))
    seconds = {name: median(found[1:]) for name, found in spent.items()}
    return [
        Cost(name, seconds[name], seconds[name] / seconds[PLAIN], peaks[name], peaks[name] / peaks[PLAIN])
        for name in METHODS
    ]


def table(setting: Setting, costs: Sequence[Cost]) -> Table:
    """Return the costs as a table for a terminal."""
    where = torch.cuda.get_device_name() if setting.device == "cuda" else f"CPU seconds, {setting.threads} thread(s)"
    return costs_of(f"{setting.student} under {setting.teacher}, 2 images of {setting.side} pixels, {where}", costs)


def _seconds(trainer: Trainer) -> float:
    """Train an epoch, and return the seconds of one of its steps behind the first: on a CPU those of the CPU."""
    clock = StepClock([1, STEPS])
    trainer.observers.append(clock)
    gc.collect()
    _epoch(trainer)
    trainer.observers.remove(clock)
    _, first, last, _ = clock.marks
    spent = (last + first * -1) * (1 / (STEPS - 1))
    return spent.by("cpu" if trainer.compute.device.type == "cpu" else "wall")


def _epoch(trainer: Trainer) -> None:
    """Train an epoch in which a review, if any, takes place."""
    trainer.begin(K)
    trainer.epoch()


def _peak_bytes(setting: Setting, name: str) -> int:
    """Return the peak GPU memory of the tensors, or the growth of the peak memory of this process."""
    before = peak_resident()
    trainer = setting.trainer(name)
    gc.collect()
    forget_peak()
    _epoch(trainer)
    on_gpu = trainer.compute.peak_memory()
    return on_gpu if on_gpu is not None else peak_resident() - before
