"""What each arm cost, beside what its baseline cost where both were measured alike."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tskd_tune.records.entries.row import UNKNOWN, Cost, Row
from tskd_tune.reports.findings.costs import base_of
from tskd_tune.reports.findings.grouping import alike, distinct, few
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.words import count

CPU = "cpu"


@dataclass(frozen=True)
class Circumstances:
    """Where a training was measured. Times and memory are compared only where all of this is equal.

    Attributes:
        device: the name of the device, as in rows.
        host: the machine, for a CPU, whose name in rows does not tell one CPU from another; otherwise empty.
        threads: the CPU threads, for a CPU; otherwise 0.
        together: how many trainings shared a GPU in one process; 1 for a CPU, where their steps follow one another.
        workers: how many processes shared each batch.
        gpu_share: the share of a GPU that the training had; 1 for a CPU.
    """

    device: str
    host: str = ""
    threads: int = 0
    together: int = 1
    workers: int = 1
    gpu_share: float = 1.0

    @classmethod
    def of(cls, cost: Cost) -> Circumstances:
        """Return where a training was measured."""
        if cost.device == CPU:
            return cls(cost.device, cost.host, cost.threads, workers=cost.workers)
        return cls(cost.device, together=cost.together, workers=cost.workers, gpu_share=cost.gpu_share)

    @property
    def words(self) -> str:
        """The circumstances in words, such as ``NVIDIA H100, 6 trainings in one process``."""
        name = f"{self.device} of {self.host}" if self.host else self.device
        told = [name] if self.device != CPU else [name, f"{count(self.threads, 'thread')}"]
        if self.together > 1:
            told.append(f"{self.together} trainings in one process")
        if self.gpu_share < 1:
            told.append(f"{self.gpu_share:g} of it")
        if self.workers > 1:
            told.append(f"{self.workers} workers")
        return ", ".join(told)


@dataclass(frozen=True)
class Range:
    """The median of some numbers, the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float]) -> Range | None:
        """Summarize numbers; None where there are none."""
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1]) if known else None


@dataclass(frozen=True)
class ArmCost:
    """What the trainings of an arm cost that were done in the same circumstances.

    Attributes:
        arm: the label of the arm.
        where: where they were measured.
        trainings: how many they are.
        epochs: how many epochs each trained.
        step_seconds: the seconds of a training's steps.
        seconds: the seconds of its steps and evaluations.
        memory_bytes: the peak GPU memory of the process; None where no training recorded it, as on a CPU.
        baseline: the arm without a review, of the same task and student, whose cost is the measure.
        baseline_why: why this arm is the baseline.
        time_ratio: the median of ``step_seconds``, divided by that of the baseline; None where the baseline was not
            measured in these circumstances.
        memory_ratio: the same for ``memory_bytes``.
        review_share: the part of the seconds of all epochs of the arm that belongs to epochs with a review, from 0 to
            1; None without a review, and where the histories were not read.
    """

    arm: str
    where: Circumstances
    trainings: int
    epochs: int
    step_seconds: Range
    seconds: Range
    memory_bytes: Range | None
    baseline: str
    baseline_why: str
    time_ratio: float | None = None
    memory_ratio: float | None = None
    review_share: float | None = None


def arm_costs(arms: Sequence[ArmFindings]) -> tuple[ArmCost, ...]:
    """Return what each arm cost, in the order of the arms, once for each of the circumstances it was measured in.

    Only trainings that were done count: the others trained fewer epochs.
    """
    groups = alike((arm for arm in arms if _done(arm)), lambda arm: arm.setting)
    bases = {arm.arm: base_of(group) for group in groups for arm in group}
    plain = [cost for arm in arms if arm.arm in bases for cost in _of_arm(arm, bases[arm.arm])]
    known = {(cost.arm, cost.where): cost for cost in plain}
    return tuple(_beside(cost, known.get((cost.baseline, cost.where))) for cost in plain)


def apart(costs: Sequence[ArmCost]) -> str:
    """Return a sentence where arms that are compared were measured on several devices; empty otherwise."""
    for base in distinct(cost.baseline for cost in costs):
        alone = [replace(cost.where, together=1, gpu_share=1.0) for cost in costs if cost.baseline == base]
        places = distinct(where.words for where in alone)
        if len(places) > 1:
            return (
                f"Times and memory were not all measured on equal devices ({few(places)}). `tskd-tune report --cost`"
                " compares those that were."
            )
    return ""


def _done(arm: ArmFindings) -> list[Row]:
    return [row for row in arm.rows if row.status == "done" and row.cost.device != UNKNOWN]


def _of_arm(arm: ArmFindings, base: ArmFindings) -> Iterable[ArmCost]:
    rows = _done(arm)
    for where in distinct(Circumstances.of(row.cost) for row in rows):
        here = [row for row in rows if Circumstances.of(row.cost) == where]
        steps, whole = (
            Range.over(of) for of in zip(*((r.cost.train_seconds, r.cost.seconds) for r in here), strict=True)
        )
        assert steps is not None and whole is not None
        yield ArmCost(
            arm=arm.arm,
            where=where,
            trainings=len(here),
            epochs=max(row.epochs for row in here),
            step_seconds=steps,
            seconds=whole,
            memory_bytes=Range.over(row.cost.peak_memory_bytes for row in here if row.cost.peak_memory_bytes),
            baseline=base.arm,
            baseline_why="the first" if base.reviewed else "the first without a review",
        )


def _beside(cost: ArmCost, base: ArmCost | None) -> ArmCost:
    if base is None:
        return cost
    return replace(
        cost,
        time_ratio=_ratio(cost.step_seconds, base.step_seconds),
        memory_ratio=_ratio(cost.memory_bytes, base.memory_bytes),
    )


def _ratio(own: Range | None, base: Range | None) -> float | None:
    return own.median / base.median if own and base and base.median else None
