"""What the study of the overhead says: its sentences and its figure, from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from tskd_tune.studies.found import Cell, Chart, Figure, Found, NamedTable, Table
from tskd_tune.studies.overhead.arms import reviewing
from tskd_tune.studies.overhead.model import whole_run
from tskd_tune.studies.overhead.tables import (
    BY_OPERATIONS,
    MEASURED,
    PREDICTED,
    Plans,
    Setting,
    agreement_table,
    bytes_table,
    methods_table,
    operations_table,
    setting_of,
    whole_runs_table,
)
from tskd_tune.studies.overhead.timing import METHODS, PLAIN, TimingJob, Timings
from tskd_tune.studies.overhead.work import Work

LIMIT = 0.15
"""The largest part by which a predicted overhead may be off."""


def found(job: TimingJob, plans: Plans, timings: Timings, works: Mapping[str, Work]) -> Found:
    """Return what was found; ``works``: the name of each arm -> its work."""
    settings = [setting_of(reviewing(k, width), job, timings, works) for width in job.widths for k in job.ks]
    whole = whole_runs_table(settings, plans)
    return Found(
        sentences=(*_sentences(job, settings, plans, timings), _bytes_sentence(job, works)),
        figures=(_steps_figure(settings), _runs_figure(whole, plans), _bytes_figure(job, works)),
        tables=(
            NamedTable(
                "agreement",
                "Is the overhead of a review step predicted?",
                "The overhead is what a step costs beyond a plain step, in plain steps. The prediction adds up the"
                f" teacher, the snapshots and the extractor, measured alone at k = {_and(job.measured_ks)}.",
                agreement_table(settings),
            ),
            NamedTable(
                "whole_runs",
                f"The cost of {plans.epochs} epochs",
                "As a multiple of plain training: 1 + reviewing epochs / epochs x (review step - 1). Evaluations are"
                " not counted.",
                whole,
            ),
            NamedTable(
                "methods",
                "The other methods",
                "They cost the same in each epoch, so the multiple of a step is that of a whole training.",
                methods_table(timings, works),
            ),
            NamedTable(
                "operations",
                "Operations of a step",
                "Floating-point operations of convolutions and matrix products. Counted: in the step itself. Predicted:"
                " three forward passes of what is trained, one of the teacher and of each snapshot.",
                operations_table(job, works),
            ),
            NamedTable("bytes", "Bytes of a training", _BYTES, bytes_table(job, works)),
        ),
        counted=_counted(job, settings),
    )


_BYTES = (
    "On the device: the most bytes of tensors that were alive in a step, and what parameters, gradients, momentum,"
    " buffers, features and the values kept for the backward pass add up to. On disk: a checkpoint, and the estimate of"
    " `tskd-tune check`; while it trains, a training keeps two checkpoints."
)


def _counted(job: TimingJob, settings: Sequence[Setting]) -> Table:
    wide = [one for one in settings if max(one.rounds) - min(one.rounds) > LIMIT * (one.measured - 1)]
    rows = (
        ("rounds that warm up and are not kept", 1),
        ("rounds whose seconds count", job.rounds),
        (
            f"settings whose prediction is off by more than {100 * LIMIT:g} %",
            sum(abs(one.off) > LIMIT for one in settings),
        ),
        (f"settings whose rounds span more than {100 * LIMIT:g} % of the overhead", len(wide)),
    )
    return Table(("what", "number"), rows)


# Figures


def _steps_figure(settings: Sequence[Setting]) -> Figure:
    columns = ("setting", "how", "overhead", "low", "high")
    rows: list[tuple[Cell, ...]] = []
    for one in settings:
        label = f"k {one.arm.k}, width {one.arm.width}"
        rows.append((label, MEASURED, one.measured - 1, min(one.rounds) - 1, max(one.rounds) - 1))
        rows.append((label, PREDICTED, one.predicted - 1, None, None))
        rows.append((label, BY_OPERATIONS, one.operations - 1, None, None))
    return Figure(
        "overhead",
        "The overhead of a review step",
        "What a step with a review costs beyond a plain step, in plain steps; the lines of the measured bars reach from"
        " the lowest to the highest round.",
        Table(columns, tuple(rows)),
        Chart("bars", "setting", "overhead", "how", low="low", high="high", y_title="overhead in plain steps"),
    )


def _runs_figure(whole: Table, plans: Plans) -> Figure:
    rows = [
        (f"k {k}, width {width}", delta, cost)
        for k, delta, width, cost in zip(*map(whole.column, ("k", "delta", "width", MEASURED)), strict=True)
    ]
    return Figure(
        "whole_runs_by_delta",
        f"The cost of {plans.epochs} epochs with reviews",
        "As a multiple of plain training, from measured steps. A longer interval between snapshots, and more snapshots,"
        " make fewer epochs review.",
        Table(("setting", "delta", "multiple"), tuple(rows)),
        Chart(
            "lines",
            "delta",
            "multiple",
            "setting",
            x_title="delta, epochs from one snapshot to the next",
            y_title="multiple of plain training",
            reference=1.0,
        ),
    )


def _bytes_figure(job: TimingJob, works: Mapping[str, Work]) -> Figure:
    table = bytes_table(job, works)
    rows: list[tuple[Cell, ...]] = []
    for arm, device, predicted in zip(*map(table.column, table.columns[:3]), strict=True):
        rows.append((arm, MEASURED, device))
        if predicted is not None:
            rows.append((arm, "predicted", predicted))
    return Figure(
        "device_bytes",
        "Bytes on the device",
        "The most bytes of tensors in a step, and what the parts of a reviewing training add up to.",
        Table(("arm", "how", "MiB"), tuple(rows)),
        Chart("bars", "arm", "MiB", "how", y_title="MiB of tensors"),
    )


# Sentences


def _sentences(job: TimingJob, settings: Sequence[Setting], plans: Plans, timings: Timings) -> list[str]:
    offs = [one.off for one in settings]
    worst = max(map(abs, offs))
    verdict = "All are" if worst <= LIMIT else f"{sum(abs(one) <= LIMIT for one in offs)} are"
    others = ", ".join(f"{arm.name} {median(timings.ratios(arm.name)):.2f}" for arm in METHODS if arm.name != PLAIN)
    cheap, dear = (choose(settings, key=lambda one: one.measured) for choose in (min, max))
    pair = job.pair
    return [
        f"In {len(settings)} settings of k and width, the predicted overhead of a review step is off by {_range(offs)}."
        f" {verdict} within {100 * LIMIT:g} % of the measured overhead (medians of {job.rounds} rounds, {pair.student}"
        f" under {pair.teacher}, {pair.batch_size} images of {pair.size} x {pair.size} pixels, one thread of the CPU).",
        f"A step with a review takes {cheap.measured:.2f} (k = {cheap.arm.k}, width {cheap.arm.width}) to"
        f" {dear.measured:.2f} plain steps (k = {dear.arm.k}, width {dear.arm.width}). The other methods take, in"
        f" each of their steps: {others}.",
        _whole_sentence(settings, plans),
        "If seconds followed the counted operations alone, the overhead would be off by"
        f" {_range([one.off_by_operations for one in settings])}.",
    ]


def _whole_sentence(settings: Sequence[Setting], plans: Plans) -> str:
    costs = [
        (whole_run(one.measured, plans.reviews(one.arm.k, delta), plans.epochs), one.arm, delta)
        for one in settings
        for delta in plans.deltas
    ]
    ends = [choose(costs, key=lambda one: one[0]) for choose in (min, max)]
    said = [f"{cost:.3f} (k = {arm.k}, delta = {delta}, width {arm.width})" for cost, arm, delta in ends]
    return (
        f"A training of {plans.epochs} epochs with reviews takes {said[0]} to {said[1]} times as long as plain"
        " training, because only the reviewing epochs cost more."
    )


def _bytes_sentence(job: TimingJob, works: Mapping[str, Work]) -> str:
    table = bytes_table(job, works)
    device = [value / 100 for value in table.column("off by %") if isinstance(value, float)]
    disk = [value / 100 for value in table.column("estimate off by %") if isinstance(value, float)]
    return (
        f"The bytes of a reviewing training on the device are predicted with errors of {_range(device)}, and the"
        f" checkpoints of all arms with errors of {_range(disk)}."
    )


def _range(shares: Sequence[float]) -> str:
    return f"{100 * min(shares):+.1f} % to {100 * max(shares):+.1f} %"


def _and(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, sorted(numbers)))
