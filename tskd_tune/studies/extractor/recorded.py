"""Knowledge sequences of real trainings, recorded by an observer, and extractors that are fitted to them.

A student is trained on the digits with reviews. After each epoch the observer takes the student's maps of fixed images:
training images, to which extractors are fitted, and validation images, on which they are measured. From the maps come
the sequences of increments (TSKD, Eq. 4 and 5) and two targets: the teacher gap of a review (Eq. 7), and the increment
of the next epoch.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.method.sequences import KnowledgeSequence
from tskd_tune.method.sequences import Target as ReviewTarget
from tskd_tune.method.transforms import Attention
from tskd_tune.studies.extractor.fits import BATCH, Data, Fit, Fitted, Pair, measured
from tskd_tune.tasks.base import Feed
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record
from tskd_tune.training.streams import generator

Target: TypeAlias = Literal["teacher_gap", "next_increment"]
TARGETS: tuple[Target, ...] = ("teacher_gap", "next_increment")
TEACHER_EPOCHS, IMAGES = 30, 300


@dataclass(frozen=True)
class RecordingJob:
    """A training that is recorded.

    Attributes:
        seed: the seed of the student's training.
        epochs: the length of the student's training.
        k: the number of snapshots of a review.
        images: the number of recorded training images, and of recorded validation images.
        taps: the stages whose maps are recorded.
    """

    seed: int
    epochs: int
    k: int
    images: int
    taps: tuple[str, ...]


@dataclass(frozen=True)
class Packed:
    """Numbers of single precision: their shape, and their bytes (little end first) in base 64."""

    shape: tuple[int, ...]
    values: str

    @classmethod
    def of(cls, maps: Tensor) -> Packed:
        """Pack a tensor."""
        return cls(tuple(maps.shape), base64.b64encode(maps.numpy().astype("<f4").tobytes()).decode())

    def tensor(self) -> Tensor:
        """Unpack the tensor."""
        values = np.frombuffer(base64.b64decode(self.values), "<f4").astype(np.float32)
        return torch.from_numpy(values).reshape(self.shape)


@dataclass(frozen=True)
class Recorded:
    """The attention maps of one tap, with training images in the first half and validation images in the second.

    Attributes:
        student: ``[E, 2N, H, W]``, after each epoch.
        teacher: ``[2N, H, W]``.
    """

    student: Packed
    teacher: Packed


@dataclass(frozen=True)
class FitJob:
    """Fits of several extractors to what one training left.

    Attributes:
        seed: the seed of the training, and of the fits.
        k: the length of the sequences.
        target: what is predicted.
        maps: the maps of one tap.
        fits: the extractors.
    """

    seed: int
    k: int
    target: Target
    maps: Recorded
    fits: tuple[Fit, ...]


class Recorder(Observer):
    """Keeps the attention maps of fixed images: the teacher's once, the student's after each epoch.

    The networks compute in evaluation mode and without gradient, as snapshots do in a review.
    """

    def __init__(self, images: Tensor, taps: tuple[str, ...]) -> None:
        """Choose images ``[2N, C, H, W]`` and stages."""
        self._images, self._taps = images, taps
        self._attention = Attention()
        self.student: list[dict[str, Tensor]] = []
        self.teacher: dict[str, Tensor] = {}

    def begun(self, training: Training) -> None:
        """Take the teacher's maps before the first epoch."""
        if not self.teacher:
            assert training.teacher is not None  # the review needs one
            self.teacher = self._maps(training.teacher)

    def ended(self, training: Training, record: Record) -> Mapping[str, float]:
        """Take the student's maps; adds no number to the history."""
        self.student.append(self._maps(training.student))
        return {}

    @torch.no_grad()
    def _maps(self, network: nn.Module) -> dict[str, Tensor]:
        was_training = [module for module in network.modules() if module.training]
        network.eval()
        features = network(self._images).features
        for module in was_training:
            module.training = True
        return {tap: self._attention(features[tap]) for tap in self._taps}

    def recorded_maps(self, tap: str) -> Recorded:
        """Return the maps of a tap."""
        return Recorded(Packed.of(torch.stack([maps[tap] for maps in self.student])), Packed.of(self.teacher[tap]))


def experiment_of(job: RecordingJob) -> Experiment:
    """Return the training that is recorded: the arm ``tskd_increment`` of ``digits.yaml``, with other lengths."""
    return Experiment.read(
        {
            "task": {"name": "digits", "train": IMAGES, "validation": IMAGES, "batch_size": 32},
            "teacher": {"name": "resnet20", "training": {"epochs": TEACHER_EPOCHS, "lr": 0.05}},
            "student": "resnet8",
            "review": {"k": job.k, "delta": 1, "lambda": {"auto": 0.1}},
            "training": {"epochs": job.epochs},
            "seed": job.seed,
        }
    )


def record(job: RecordingJob) -> dict[str, Recorded]:
    """Train a student, and return the maps of each tap."""
    trainer = build_trainer(experiment_of(job))
    device = trainer.compute.device
    feeds = (trainer.task.training(device), trainer.task.evaluation("validation", device))
    recorder = Recorder(torch.cat([first(feed, job.images) for feed in feeds]), job.taps)
    trainer.observers.append(recorder)
    while not trainer.finished:
        trainer.epoch()
    return {tap: recorder.recorded_maps(tap) for tap in job.taps}


def first(feed: Feed, count: int) -> Tensor:
    """Return the first images of a part, without augmentation."""
    batches = (feed.batch(draw).images for draw in feed.draws())
    return torch.cat(list(islice(batches, -(-count // BATCH))))[:count]


def fit_recorded(job: FitJob) -> list[Fitted]:
    """Fit each extractor to the sequences of the training images, and measure it on those of the validation images."""
    known, held_out = windows(job.maps, job.k, job.target)
    return [measured(fit, Data(_batches(known, job.seed), known, held_out), job.seed) for fit in job.fits]


def windows(maps: Recorded, k: int, target: Target) -> tuple[Pair, Pair]:
    """Return all sequences of k increments and their targets: of the training images, and of the validation images.

    Each epoch t with k epochs before it gives one sequence of each image, from the maps after the epochs t - k to t.
    The target is the teacher gap after epoch t, or the increment from epoch t to t + 1.
    """
    student, teacher = maps.student.tensor(), maps.teacher.tensor()
    last = len(student) if target == "teacher_gap" else len(student) - 1
    increments, gap = KnowledgeSequence(), ReviewTarget()
    sequences, targets = [], []
    for epoch in range(k, last):
        sequences.append(increments(list(student[epoch - k : epoch]), student[epoch]))
        follows = teacher if target == "teacher_gap" else student[epoch + 1]
        targets.append(gap(student[epoch], follows).unsqueeze(1))
    half = student.shape[1] // 2
    parts = (slice(None, half), slice(half, None))
    known, held_out = (
        (torch.cat([one[:, part] for one in sequences], 1), torch.cat([one[part] for one in targets])) for part in parts
    )
    return known, held_out


def _batches(known: Pair, seed: int) -> Iterator[Pair]:
    """Draw sequences at random, with replacement."""
    random, (sequence, target) = generator(seed, "recorded"), known
    while True:
        drawn = torch.randint(len(target), (BATCH,), generator=random)
        yield sequence[:, drawn], target[drawn]
