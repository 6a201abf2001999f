"""Times the steps of all arms and the pieces of a review step, in turns: a disturbance meets all of them.

Seconds are those of the processor that the process used, with one thread. Another process on the machine hardly
changes them, but for its share of caches and memory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tskd_tune.studies.overhead.arms import Arm, Pair, ReviewPieces, Training, reviewing, timed
from tskd_tune.studies.overhead.model import Pieces

PLAIN = "plain"
METHODS = (Arm(PLAIN), Arm("KD", "kd"), Arm("AT", "at"), Arm("ReviewKD", "review_kd"))


@dataclass(frozen=True)
class TimingJob:
    """What is timed.

    Attributes:
        pair: the networks and the images.
        ks: the numbers of snapshots of the reviews whose steps are timed.
        widths: the widths of their extractors.
        measured_ks: two other numbers of snapshots, at which the pieces of a review are timed.
        rounds: how often everything is timed in turns; one more round warms up.
        seconds: the least seconds for which a step or a piece is repeated in a round.
    """

    pair: Pair
    ks: Sequence[int]
    widths: Sequence[int]
    measured_ks: Sequence[int]
    rounds: int
    seconds: float

    def arms(self) -> list[Arm]:
        """Return the arms whose steps are timed: the methods, and a review for each k and width."""
        return [*METHODS, *(reviewing(k, width) for width in self.widths for k in self.ks)]


@dataclass(frozen=True)
class Timings:
    """The seconds of each round.

    Attributes:
        steps: the name of an arm -> the seconds of a step; of a reviewing arm of a step that reviews.
        teacher: the seconds of the teacher's forward pass up to its last tap.
        snapshot: the seconds of the forward pass of one snapshot up to its last tap.
        extractor: width -> k -> the seconds of the review's own loss, forward and backward.
    """

    steps: dict[str, list[float]]
    teacher: list[float]
    snapshot: list[float]
    extractor: dict[int, dict[int, list[float]]]

    def ratios(self, name: str) -> list[float]:
        """Return the seconds of an arm's step as multiples of a plain step of the same round."""
        return [own / plain for own, plain in zip(self.steps[name], self.steps[PLAIN], strict=True)]

    def pieces(self, width: int) -> Pieces:
        """Return the median seconds of the pieces, each as a multiple of a plain step of the same round."""

        def relative(seconds: Sequence[float]) -> float:
            return median(own / plain for own, plain in zip(seconds, self.steps[PLAIN], strict=True))

        own = {k: relative(seconds) for k, seconds in self.extractor[width].items()}
        return Pieces(1.0, relative(self.teacher), relative(self.snapshot), own)


def time_all(job: TimingJob) -> Timings:
    """Time the steps of all arms and all pieces; one round warms up and is not kept."""
    arms = {arm.name: Training(job.pair, arm) for arm in job.arms()}
    pieces = {
        (width, k): Training(job.pair, reviewing(k, width)).pieces() for width in job.widths for k in job.measured_ks
    }
    found = Timings(
        {name: [] for name in arms}, [], [], {width: {k: [] for k in job.measured_ks} for width in job.widths}
    )
    for number in range(job.rounds + 1):
        _round(job, arms, pieces, found, kept=number > 0)
    return found


def _round(
    job: TimingJob,
    arms: dict[str, Training],
    pieces: dict[tuple[int, int], ReviewPieces],
    found: Timings,
    *,
    kept: bool,
) -> None:
    """Time everything once."""
    steps = {name: training.seconds(job.seconds) for name, training in arms.items()}
    (_, k), networks = next(iter(pieces.items()))
    teacher = median(timed(networks.teacher, time.process_time, job.seconds))
    snapshots = median(timed(networks.snapshots, time.process_time, job.seconds))
    losses = {key: median(timed(piece.descend, time.process_time, job.seconds)) for key, piece in pieces.items()}
    if not kept:
        return
    for name, seconds in steps.items():
        found.steps[name].append(seconds)
    found.teacher.append(teacher)
    found.snapshot.append(snapshots / k)
    for (width, length), seconds in losses.items():
        found.extractor[width][length].append(seconds)
