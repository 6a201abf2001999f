"""The suite ``tables``: the paper's tables 5 to 7 from the package's files, extrapolated by exact counts of steps."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch

from benchmarks.clocks import Contender, Phases, interleaved
from benchmarks.contenders import END, GENERAL, LOOK, REVIEW, Ours, Reference
from benchmarks.environment import name_of
from benchmarks.exactness import Found, against_reference
from benchmarks.rows import Clock, Goal, Report, Row, Spent
from benchmarks.steps import WORKERS
from benchmarks.together import Bundle, equal_to_solo
from benchmarks.variants import is_exact, is_graph, variants_of
from benchmarks.workload import Variant, Workload
from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of

SEEDS, BUNDLED = 3, 6
MINUTES = 30.0
REFERENCE, SOLO, TOGETHER = "the reference loop", "alone", f"{BUNDLED} together"
CELLS = (
    ("table5_sequence", "increment"),
    ("table5_sequence", "feature_map"),
    ("table5_sequence_wrn", "increment"),
    ("table5_sequence_wrn", "feature_map"),
    ("table6_delta", "k3_delta10"),
    ("table6_delta", "k3_delta15"),
    ("table7_k", "k6_delta5"),
    ("table7_k", "k9_delta5"),
)
"""The cells that differ: k = 3 with a delta of 5 is in all three tables."""


@dataclass(frozen=True)
class Counts:
    """What a run of a cell does, counted from its plan.

    Attributes:
        general: steps without a review.
        reviews: review steps, without the first of each review epoch.
        looks: the first review steps.
        epochs: the epochs, each of which ends with an evaluation.
    """

    general: int
    reviews: int
    looks: int
    epochs: int

    @classmethod
    def of(cls, experiment: Experiment) -> Counts:
        """Count the steps of an experiment with reviews."""
        plan, steps = experiment.plan(), task_of(experiment).steps()
        assert plan is not None
        looks, epochs = len(plan.review_nodes), experiment.training.epochs
        reviews = looks * plan.review_steps(steps)
        return cls(epochs * steps - reviews, reviews - looks, looks, epochs)

    def seconds(self, phases: Phases) -> Spent:
        """Return the time of a run from the time of each kind of step; a look without a time is a review step."""
        look = phases.get(LOOK, phases[REVIEW])
        parts = phases[GENERAL] * self.general, phases[REVIEW] * self.reviews, look * self.looks
        return parts[0] + parts[1] + parts[2] + phases[END] * self.epochs


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        name: the search space and its arm.
        counts: what a run does.
        workload: the steps that are measured for it; the cells of one workload share its times.
        tests: test images of an evaluation.
        steps: steps of an epoch.
    """

    name: str
    counts: Counts
    workload: Workload
    tests: int
    steps: int


def cell(space: str, arm: str) -> Cell:
    """Read a cell from a search space of the package."""
    document = documents.load(Path(space)).data["experiment"]
    arms = document.pop("choice")
    experiment = Experiment.read(documents.merge(document, arms[arm]))
    teacher, plain = experiment.teacher, experiment.plain()
    assert experiment.review is not None and teacher is not None
    review = cast("Mapping[str, object]", plain["review"])
    extractor = cast("Mapping[str, object]", review["extractor"])
    workload = Workload(
        experiment.student.name,
        teacher.name,
        batch_size=cast("int", cast("Mapping[str, object]", plain["task"])["batch_size"]),
        reviews=2,
        k=experiment.review.k,
        hidden=cast("int", extractor["hidden"]),
        sequence=cast("Literal['increment', 'feature_map']", review["sequence"]),
        adam=cast("Mapping[str, object]", extractor["training"])["optimizer"] == "own",
    )
    _refuse_unknown(experiment, workload, f"{space}: {arm}")
    task = task_of(experiment)
    return Cell(f"{space}: {arm}", Counts.of(experiment), workload, task.facts().samples[2], task.steps())


def _refuse_unknown(experiment: Experiment, workload: Workload, name: str) -> None:
    """Refuse a cell that has an option which the measured workload has not, so that no other steps are timed.

    Raises:
        InputError: see above.
    """
    measured = workload.experiment(Variant(""), torch.device("cpu"))
    ours, theirs = measured.plain()["review"], experiment.plain()["review"]
    assert isinstance(ours, dict) and isinstance(theirs, dict)
    beside = {"delta", "lambda", "plan"}  # they decide when a review happens and how strong it is, not what it computes
    differing = sorted(key for key in theirs if key not in beside and ours[key] != theirs[key])
    if differing or experiment.distiller.name != "none" or experiment.evaluation.test != "every_epoch":
        raise InputError(
            f"benchmarks tables: {name} has options that the measured steps have not"
            f" ({', '.join(f'review.{key}' for key in differing) or 'distiller or evaluation'}); extend"
            " benchmarks.workload.Workload"
        )


@dataclass(frozen=True)
class Mode:
    """One way to train the tables: a variant, alone or in bundles, and the time of the steps of each workload."""

    name: str
    variant: Variant
    phases: Mapping[Workload, Phases]
    found: Mapping[Workload, Found]


def run(device: torch.device, *, quick: bool) -> Report:
    """Measure the steps of all cells and extrapolate the tables.

    Raises:
        ExactnessError: a variant computes something else than the reference, or a bundle than a training alone.
    """
    cells = [cell(space, arm) for space, arm in CELLS]
    modes, reference = _measured(cells, device, quick)
    rows = [row for mode in modes for row in _rows(cells, mode, reference, device)]
    steps = sum(SEEDS * (each.counts.general + each.counts.reviews + each.counts.looks) for each in cells)
    how = (
        f"Extrapolated: {len(cells)} cells x {SEEDS} seeds, {steps:,} steps. The steps of each kind are counted from"
        " the ReviewPlan of each cell, and multiplied by the median time of such a step. Each epoch ends with an"
        " evaluation of the test images. Teachers, start-up and captures are left out."
    )
    return Report(tuple(rows), notes=(how, *_notes(cells)))


def _notes(cells: Sequence[Cell]) -> list[str]:
    return [
        f"{each.name}: {each.counts.general:,} general steps, {each.counts.reviews + each.counts.looks:,} review steps"
        f" in {each.counts.looks} epochs, {each.counts.epochs} evaluations of {each.tests:,} images"
        for each in cells
    ]


def _measured(cells: Sequence[Cell], device: torch.device, quick: bool) -> tuple[list[Mode], Mapping[Workload, Phases]]:
    """Measure every distinct workload in every mode, and in the reference loop."""
    variants, reference = _variants(device, quick), {}
    names = {(variant.name, how): variant for variant in variants for how in _hows(device)}
    phases: dict[tuple[str, str], dict[Workload, Phases]] = {name: {} for name in names}
    found: dict[tuple[str, str], dict[Workload, Found]] = {name: {} for name in names}
    for each in {each.workload: each for each in cells}.values():
        workload, scale = sized(each, device, quick)
        built = {name: _contender(workload, variant, device, name[1]) for name, variant in names.items()}
        first = variants[0]
        model = workload.trainer(first, device)
        loop = Reference(workload, model, device, WORKERS[device.type])
        contenders: dict[str, Contender] = {REFERENCE: loop, **{" ".join(name): made for name, made in built.items()}}
        timed = interleaved(contenders, 1 if quick else 5)
        reference[each.workload] = scale(_medians(timed[REFERENCE].runs))
        for name, variant in names.items():
            phases[name][each.workload] = scale(_medians(timed[" ".join(name)].runs))
            found[name][each.workload] = _found(workload, variant, device, name[1])
        del built, loop, contenders, model
        gc.collect()
    modes = [Mode(f"{name[0]}, {name[1]}", names[name], phases[name], found[name]) for name in names]
    return modes, reference


def _variants(device: torch.device, quick: bool) -> tuple[Variant, ...]:
    """Return what is measured: the exact variants, without those that are slower and as exact."""
    variants = variants_of(device)
    if device.type == "cpu":
        return variants[-1:] if quick else variants[-2:]
    return tuple(variant for variant in variants if is_exact(variant) and is_graph(variant))[-1:]


def _hows(device: torch.device) -> tuple[str, ...]:
    return (SOLO, TOGETHER) if device.type == "cuda" else (SOLO,)


@dataclass(frozen=True)
class Scale:
    """What measured times are multiplied with, where fewer images are measured than the tables have.

    Attributes:
        step: images of a step of the tables per measured image of a step.
        end: test images of the tables per measured test image.
    """

    step: float
    end: float

    def __call__(self, phases: Phases) -> Phases:
        """Return the times in the tables."""
        return {name: spent * (self.end if name == END else self.step) for name, spent in phases.items()}


def sized(each: Cell, device: torch.device, quick: bool) -> tuple[Workload, Scale]:
    """Return the workload that is measured for a cell, and how its times become those of the cell."""
    if device.type == "cuda":
        general, reviews = (100, 21) if quick else (each.steps, 101)
        return replace(each.workload, general=general, reviews=reviews, tested=each.tests), Scale(1.0, 1.0)
    tested = 128 if quick else 256
    size = 32 if quick else each.workload.batch_size
    measured = replace(each.workload, batch_size=size, general=2, reviews=2, tested=tested)
    return measured, Scale(each.workload.batch_size / size, each.tests / tested)


def _medians(runs: Sequence[Phases]) -> Phases:
    return {name: Spent.median([run[name] for run in runs]) for name in runs[0]}


def _contender(workload: Workload, variant: Variant, device: torch.device, how: str) -> Contender:
    return Ours(workload, variant, device) if how == SOLO else BundledEpochs(workload, variant, device)


class BundledEpochs:
    """Whole epochs of a bundle, one that only reviews and one that does not; the clock runs over all of each."""

    def __init__(self, workload: Workload, variant: Variant, device: torch.device) -> None:
        """Build two bundles."""
        seeds = range(1, BUNDLED + 1)
        self._general = Bundle(replace(workload, reviews=0), variant, device, seeds)
        self._review = Bundle(replace(workload, general=0), variant, device, seeds)

    def prepare(self) -> None:
        """Train two epochs of each."""
        self._general.prepare()
        self._review.prepare()

    def run(self) -> Phases:
        """Return the time of a step of one training; begin, look and evaluation are part of the mean step."""
        return {
            GENERAL: self._general.run()[GENERAL],
            REVIEW: self._review.run()[GENERAL],
            END: Spent(0.0, 0.0),
        }


def _found(workload: Workload, variant: Variant, device: torch.device, how: str) -> Found:
    found = against_reference(workload, variant, device)
    if how == TOGETHER:
        equal_to_solo(replace(workload, general=8, reviews=6, tested=0), variant, device, 2)
    return found


def _rows(cells: Sequence[Cell], mode: Mode, reference: Mapping[Workload, Phases], device: torch.device) -> list[Row]:
    clock: Clock = "cpu" if device.type == "cpu" else "wall"
    rows = []
    for each in cells:
        found = mode.found[each.workload]
        counts = each.counts
        row = Row(
            suite="tables",
            name=f"{each.name}, {mode.name}",
            device=name_of(device),
            precision=mode.variant.precision,
            layout=mode.variant.layout,
            unit=f"{SEEDS} runs",
            clock=clock,
            ours=counts.seconds(mode.phases[each.workload]) * SEEDS,
            reference=counts.seconds(reference[each.workload]) * SEEDS,
            exactness=found.exactness,
            compared=found.compared,
            difference=found.difference,
            more={
                "general_steps": counts.general,
                "review_steps": counts.reviews + counts.looks,
                "epochs": counts.epochs,
                "seeds": SEEDS,
                **{f"{name}_seconds": spent.by(clock) for name, spent in mode.phases[each.workload].items()},
            },
        )
        rows.append(row)
    return [*rows, _total(rows, mode, clock, device)]


def _total(rows: Sequence[Row], mode: Mode, clock: Clock, device: torch.device) -> Row:
    ours, reference = (Spent(0.0, 0.0), Spent(0.0, 0.0))
    for row in rows:
        ours, reference = ours + row.ours, reference + row.reference
    worst = max(rows, key=lambda row: row.difference)
    goal = Goal("minutes for tables 5 to 7", ours.wall / 60, MINUTES, at_least=False)
    return replace(
        worst,
        name=f"tables 5 to 7, {mode.name}",
        unit=f"{SEEDS * len(rows)} runs",
        ours=ours,
        reference=reference,
        goals=(goal,) if device.type == "cuda" and mode.name.endswith(TOGETHER) else (),
        more={"seeds": SEEDS, "cells": len(rows)},
    )
