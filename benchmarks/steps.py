"""The suites ``step``, ``review`` and ``cycle``: what a step costs, beside the same step of the reference loop."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import torch

from benchmarks.clocks import Contender, Timed, interleaved
from benchmarks.contenders import GENERAL, REVIEW, Ours, PartsOfReference, Reference, check
from benchmarks.cutting import Cutting
from benchmarks.environment import name_of
from benchmarks.exactness import ExactnessError, Found, against_reference, same_bits
from benchmarks.floor import Ceilings, Work, ceilings, work
from benchmarks.rows import Check, Clock, Goal, Report, Row, Spent
from benchmarks.variants import is_exact, is_graph, left_out, variants_of
from benchmarks.workload import Variant, Workload

REFERENCE, PARTS = "the reference loop", "its parts"
WORKERS = {"cpu": 2, "cuda": 8}
REPEATS, QUICK_REPEATS = 5, 3
GENERAL_STEPS_OF_A_CYCLE = 15
REVIEW_GOAL = 3.3
CYCLE_GOALS = {"float32": 2.5, "bfloat16": 4.5}
SOLO_MS, SOLO_RATIO = 1.2, 13.0

REVIEWED = (
    "A review has k = 3 snapshots and extractors of hidden 8. The first review step of an epoch is left out, because it"
    " also measures gradients."
)
CYCLE = f"A cycle is {GENERAL_STEPS_OF_A_CYCLE} times the mean general step and once the mean review step."

Suite = Literal["step", "review", "cycle"]


@dataclass(frozen=True)
class Size:
    """How much is measured: the images of a step, the steps of an epoch, and the repeats."""

    batch_size: int
    general: int
    reviews: int
    repeats: int

    @classmethod
    def of(cls, device: torch.device, quick: bool) -> Size:
        """Return the size of a suite on a device."""
        if device.type == "cuda":
            return cls(128, 100 if quick else 300, 21 if quick else 61, QUICK_REPEATS if quick else REPEATS)
        return cls(32, 5, 3, QUICK_REPEATS) if quick else cls(128, GENERAL_STEPS_OF_A_CYCLE, 3, REPEATS)


@dataclass(frozen=True)
class Measured:
    """The times of a workload in all variants, and what is known of each.

    Attributes:
        workload: the workload.
        device: the device.
        timed: the times of each variant and of the reference, by name.
        found: how the numbers of each variant differ from the reference's.
        ceilings: what the device can do.
        work: what a step of each kind must do.
        checks: the reference against its parts.
        refused: the variants that have no figures, and why, by name.
    """

    workload: Workload
    device: torch.device
    timed: Mapping[str, Timed]
    found: Mapping[str, Found]
    ceilings: Ceilings
    work: Mapping[str, Work]
    checks: tuple[Check, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def clock(self) -> Clock:
        """The clock of ratios."""
        return "cpu" if self.device.type == "cpu" else "wall"

    def row(self, suite: str, name: str, unit: str, variant: Variant, counts: Mapping[str, int]) -> Row:
        """Return the row of so many steps of each kind."""
        ours, reference = self._sums(variant.name, counts), self._sums(REFERENCE, counts)
        found = self.found[variant.name]
        floor = sum(count * self.ceilings.seconds(self.work[kind], variant.precision) for kind, count in counts.items())
        return Row(
            suite=suite,
            name=f"{name}, {variant.name}",
            device=name_of(self.device),
            precision=variant.precision,
            layout=variant.layout,
            unit=unit,
            clock=self.clock,
            ours=Spent.median(ours),
            reference=Spent.median(reference),
            exactness=found.exactness,
            compared=found.compared,
            difference=found.difference,
            prepare_seconds=self.timed[variant.name].prepare_seconds,
            floor_seconds=floor,
            repeats=tuple(zip(ours, reference, strict=True)),
            more={"batch_size": self.workload.batch_size, **{f"{kind}_steps": count for kind, count in counts.items()}},
        )

    def step(self, variant: Variant, kind: str) -> float:
        """Return the median seconds of a step of ours, by the clock of ratios."""
        return self.timed[variant.name].median(kind).by(self.clock)

    def has(self, variants: Sequence[Variant]) -> list[Variant]:
        """Return those of the variants that have figures."""
        return [variant for variant in variants if variant.name in self.found]

    def _sums(self, name: str, counts: Mapping[str, int]) -> list[Spent]:
        each = [[spent * count for spent in self.timed[name].each(kind)] for kind, count in counts.items()]
        return [_total(times) for times in zip(*each, strict=True)]


def measure(workload: Workload, variants: Sequence[Variant], device: torch.device, repeats: int) -> Measured:
    """Time all variants in turns, and compare the numbers of each with the reference's.

    A variant that fails, or computes something else than the reference, or a graph than the same steps without, has no
    figures; the others have.
    """
    refused: dict[str, str] = {}
    ours = {variant.name: Ours(workload, variant, device) for variant in variants}
    workers = WORKERS[device.type]
    reference = Reference(workload, next(iter(ours.values())).trainer, device, workers)
    contenders: dict[str, Contender] = {REFERENCE: reference, PARTS: PartsOfReference(reference), **ours}
    timed = interleaved(contenders, repeats, refused)
    raise_first(refused, REFERENCE, PARTS)
    # Afterwards, so that the first compilation of a step counts as its preparation.
    found = {}
    for variant in variants:
        if variant.name not in refused:
            try:
                found[variant.name] = _compared(workload, variant, device)
            except ExactnessError as error:
                refused[variant.name] = str(error)
    kinds = [GENERAL, *([REVIEW] if workload.reviews else [])]
    parts = {name: timed[PARTS].median(name) for name in timed[PARTS].runs[0]}
    return Measured(
        workload,
        device,
        timed,
        found,
        ceilings(device),
        {kind: work(workload, review=kind == REVIEW) for kind in kinds},
        tuple(check(kind, timed[REFERENCE].median(kind), parts, device, workers) for kind in kinds),
        refused,
    )


def raise_first(refused: Mapping[str, str], *needed: str) -> None:
    """Raise the error of a contender without which no ratio can be given."""
    for name in needed:
        if name in refused:
            raise RuntimeError(refused[name])


def _compared(workload: Workload, variant: Variant, device: torch.device) -> Found:
    found = against_reference(workload, variant, device)
    if not (is_graph(variant) and is_exact(variant)):
        return found
    eager = replace(variant, options={**variant.options, "graphs": "never"})
    same_bits(workload, variant, eager, device)
    return replace(found, compared=f"{found.compared}; and all bits of an epoch with those of the eager engine")


def run(suite: Suite, device: torch.device, *, quick: bool) -> Report:
    """Measure one of the three suites."""
    size, chosen = Size.of(device, quick), variants_of(device, quick=quick)
    suites: dict[Suite, Callable[[Size, Sequence[Variant], torch.device], Report]] = {
        "step": _steps,
        "review": _reviews,
        "cycle": _cycles,
    }
    return suites[suite](size, chosen, device)


def _steps(size: Size, chosen: Sequence[Variant], device: torch.device) -> Report:
    plain = Workload(batch_size=size.batch_size, general=size.general)
    cutting, found = Cutting(), []
    for name, workload in (("general step", plain), ("KD step", replace(plain, distils=True))):
        measured = cutting.measured(name, partial(measure, workload, chosen, device, size.repeats))
        if measured is not None:
            found.append((name, measured))
        gc.collect()
    rows = [_row_of_step(name, one, variant) for name, one in found for variant in one.has(chosen)]
    refused = tuple(f"{name}, {why}" for name, one in found for why in one.refused.values())
    checks = [replace(each, name=name) for name, measured in found for each in measured.checks]
    notes = cutting.notes(found)
    notes = (str(found[-1][1].ceilings), *left_out(device), *notes)
    return Report(tuple(rows), tuple(checks), notes, refused=refused)


def _row_of_step(name: str, measured: Measured, variant: Variant) -> Row:
    row = measured.row("step", name, "step", variant, {GENERAL: 1})
    is_plain = measured.device.type == "cuda" and not measured.workload.distils
    return replace(row, goals=_solo_goals(row, variant) if is_plain else ())


def _solo_goals(row: Row, variant: Variant) -> tuple[Goal, ...]:
    if variant.precision != "bfloat16":
        return ()
    return (
        Goal("ms a general step", 1000 * row.ours.wall, SOLO_MS, at_least=False),
        Goal("reference / ours", row.ratio, SOLO_RATIO, at_least=True),
    )


def _reviewed(size: Size, chosen: Sequence[Variant], device: torch.device) -> Measured:
    workload = Workload(batch_size=size.batch_size, general=size.general, reviews=size.reviews)
    return measure(workload, chosen, device, size.repeats)


def _reviews(size: Size, chosen: Sequence[Variant], device: torch.device) -> Report:
    measured = _reviewed(size, chosen, device)
    rows = []
    for variant in measured.has(chosen):
        steps = measured.step(variant, REVIEW) / measured.step(variant, GENERAL)
        row = measured.row("review", "review step", "step", variant, {REVIEW: 1})
        goal = Goal("general steps of the same variant", steps, REVIEW_GOAL, at_least=False)
        more = {**row.more, "general_steps_per_review": steps, "general_seconds": measured.step(variant, GENERAL)}
        rows.append(replace(row, goals=(goal,), more=more))
    return _of_reviews((*rows, *_rows_of_cycles(measured, chosen)), measured)


def _cycles(size: Size, chosen: Sequence[Variant], device: torch.device) -> Report:
    measured = _reviewed(size, chosen, device)
    return _of_reviews(_rows_of_cycles(measured, chosen), measured)


def _of_reviews(rows: tuple[Row, ...], measured: Measured) -> Report:
    notes = (CYCLE, REVIEWED, str(measured.ceilings), *left_out(measured.device))
    return Report(rows, measured.checks, notes, refused=tuple(measured.refused.values()))


def _rows_of_cycles(measured: Measured, chosen: Sequence[Variant]) -> tuple[Row, ...]:
    """Return the rows of `cycle`, which need no other times than those of `review`."""
    rows = []
    counts = {GENERAL: GENERAL_STEPS_OF_A_CYCLE, REVIEW: 1}
    for variant in measured.has(chosen):
        row = measured.row("cycle", "cycle", "cycle", variant, counts)
        goal = Goal("reference / ours", row.ratio, CYCLE_GOALS[variant.precision], at_least=True)
        rows.append(replace(row, goals=(goal,) if measured.device.type == "cpu" else ()))
    return tuple(rows)


def _total(times: Sequence[Spent]) -> Spent:
    total = Spent(0.0, 0.0)
    for time in times:
        total += time
    return total
