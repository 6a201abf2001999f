"""The suite ``together``: trainings in one process that take their steps in turns, beside one training alone."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.clocks import Contender, Phases, Timed, interleaved, now, since
from benchmarks.contenders import GENERAL, Reference
from benchmarks.cutting import Cutting
from benchmarks.environment import name_of
from benchmarks.exactness import LEAST, ExactnessError, Found, Limits, flat, judged
from benchmarks.floor import ceilings, work
from benchmarks.rows import Clock, Goal, Report, Row
from benchmarks.steps import QUICK_REPEATS, REPEATS, WORKERS, raise_first
from benchmarks.variants import is_exact, is_graph, variants_of
from benchmarks.workload import SEED, Variant, Workload
from tskd_tune.training.lockstep import advance
from tskd_tune.training.trainer import Trainer

REFERENCE, SOLO = "the reference loop", "alone"
COUNTS = {"cpu": (2,), "cuda": (3, 6, 12)}
TOGETHER_MS, TOGETHER_RATIO = 0.60, 38.0
SIX = 6


class Bundle:
    """Trainings of different seeds that share a process."""

    def __init__(self, workload: Workload, variant: Variant, device: torch.device, seeds: Sequence[int]) -> None:
        """Build one training per seed."""
        self.trainers = [workload.trainer(variant, device, seed) for seed in seeds]
        self._workload, self._device = workload, device

    def prepare(self) -> None:
        """Train two epochs, after which graphs are captured."""
        for _ in range(2 if self._device.type == "cuda" else 1):
            self.run()

    def run(self) -> Phases:
        """Train an epoch of each, and return the time of one step of one training."""
        gc.collect()
        start = now()
        for trainer in self.trainers:
            trainer.begin(self._workload.epoch)
        for ended in advance(self.trainers):
            if isinstance(ended, BaseException):
                raise ended
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return {GENERAL: since(start) * (1 / (len(self.trainers) * self._workload.steps))}


@dataclass(frozen=True)
class Setup:
    """What is measured on a device."""

    workload: Workload
    variant: Variant
    device: torch.device
    repeats: int

    @property
    def clock(self) -> Clock:
        """The clock of ratios."""
        return "cpu" if self.device.type == "cpu" else "wall"


def run(device: torch.device, *, quick: bool) -> Report:
    """Measure the suite; a bundle that fails, or has other bits than the same trainings alone, has no figures."""
    rows: list[Row] = []
    refused: dict[str, str] = {}
    steps = (100 if quick else 391) if device.type == "cuda" else 5
    workload = Workload(general=steps, batch_size=32 if quick and device.type == "cpu" else 128)
    repeats = QUICK_REPEATS if quick else REPEATS
    cutting = Cutting()
    for variant in _exact(device, quick):
        setup = Setup(workload, variant, device, repeats)
        rows += cutting.measured(variant.name, partial(_rows, setup, refused)) or []
        gc.collect()
    note = "A bundle is advanced by `training.lockstep.advance`: its trainings take their steps in turns."
    notes = (note, *cutting.notes([*rows, *refused]))
    return Report(tuple(rows), notes=notes, refused=tuple(refused.values()))


def _exact(device: torch.device, quick: bool) -> list[Variant]:
    """Return the variants whose bits are the same each time: bundles promise a training's own bits only there.

    On a GPU the one with goals comes first, and is alone in short.
    """
    exact = [variant for variant in variants_of(device) if is_exact(variant)]
    if device.type != "cuda":
        return exact[-2:]
    graphs = [variant for variant in reversed(exact) if is_graph(variant)]
    return graphs[:1] if quick else graphs


def _rows(setup: Setup, refused: dict[str, str]) -> list[Row]:
    workload, variant, device = setup.workload, setup.variant, setup.device
    bundles = {f"{count} together": Bundle(workload, variant, device, _seeds(count)) for count in COUNTS[device.type]}
    alone = Bundle(workload, variant, device, [SEED])
    reference = Reference(workload, alone.trainers[0], device, WORKERS[device.type])
    contenders: dict[str, Contender] = {REFERENCE: reference, SOLO: alone, **bundles}
    lost: dict[str, str] = {}
    timed, rows = interleaved(contenders, setup.repeats, lost), []
    raise_first(lost, REFERENCE, SOLO)
    for name, bundle in bundles.items():
        if name in lost:
            refused[f"{name}, {variant.name}"] = f"{variant.name}, {lost[name]}"
            continue
        try:
            found = equal_to_solo(workload, variant, device, len(bundle.trainers))
        except ExactnessError as error:
            refused[f"{name}, {variant.name}"] = str(error)
            continue
        rows.append(_row(setup, name, timed, found, len(bundle.trainers)))
    return rows


def _row(setup: Setup, name: str, timed: dict[str, Timed], found: Found, count: int) -> Row:
    ours, variant, clock = timed[name].median(GENERAL), setup.variant, setup.clock
    row = Row(
        suite="together",
        name=f"{name}, {variant.name}",
        device=name_of(setup.device),
        precision=variant.precision,
        layout=variant.layout,
        unit="step of one training",
        clock=clock,
        ours=ours,
        reference=timed[REFERENCE].median(GENERAL),
        exactness=found.exactness,
        compared=found.compared,
        difference=found.difference,
        prepare_seconds=timed[name].prepare_seconds,
        floor_seconds=ceilings(setup.device).seconds(work(setup.workload, review=False), variant.precision),
        repeats=timed[name].pairs(GENERAL, timed[REFERENCE]),
        more={
            "trainings": count,
            "solo_seconds": timed[SOLO].median(GENERAL).by(clock),
            "solo_over_together": timed[SOLO].median(GENERAL).by(clock) / ours.by(clock),
            "solo_over_together_wall": timed[SOLO].median(GENERAL).wall / ours.wall,
        },
    )
    if setup.device.type != "cuda" or count < SIX or variant.precision != "bfloat16":
        return row
    goals = (
        Goal("ms a step of one training", 1000 * ours.wall, TOGETHER_MS, at_least=False),
        Goal("reference / ours", row.ratio, TOGETHER_RATIO, at_least=True),
    )
    return replace(row, goals=goals)


def equal_to_solo(workload: Workload, variant: Variant, device: torch.device, count: int) -> Found:
    """Train an epoch together and each training alone, and compare all bits of the students.

    Raises:
        ExactnessError: a bit differs.
    """
    bundle = Bundle(workload, variant, device, _seeds(count))
    bundle.run()
    together = [_state(trainer) for trainer in bundle.trainers]
    del bundle
    difference = 0.0
    for seed, state in zip(_seeds(count), together, strict=True):
        alone = Bundle(workload, variant, device, [seed])
        alone.run()
        difference = max(difference, _difference(state, _state(alone.trainers[0])))
    if count > 1 and torch.equal(together[0], together[1]):
        raise ExactnessError(f"{variant.name}: two seeds ended with the same bits, so nothing was compared")
    compared = f"all bits of {count} students after {workload.steps} steps, together and alone"
    return judged(f"{count} together, {variant.name}", Limits(0.0, difference), "bitwise", compared)


def _state(trainer: Trainer) -> torch.Tensor:
    trainer.compute.synchronize()
    return flat(trainer.student.state_dict().values())


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return 0.0 if torch.equal(ours, theirs) else max(float((ours - theirs).norm() / theirs.norm()), LEAST)


def _seeds(count: int) -> list[int]:
    return list(range(SEED, SEED + count))
