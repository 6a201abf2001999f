"""The table of what each arm cost: its columns, cells and notes, and the same as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from tskd_tune.reports.findings.cost_table import CPU, ArmCost, Range
from tskd_tune.reports.findings.grouping import distinct, few
from tskd_tune.reports.forms.exports import Cells, csv_text
from tskd_tune.reports.forms.grids import Align, drawn
from tskd_tune.reports.forms.short import MISSING, duration

TITLE = "What each arm cost"
NOT_COMPARABLE = "not comparable"
MIB = 1024**2
Titles = list[tuple[str, Align]]


def compares(costs: Sequence[ArmCost]) -> bool:
    """Tell whether costs are those of several arms."""
    return len({cost.arm for cost in costs}) > 1


def cost_cells(costs: Sequence[ArmCost]) -> tuple[Titles, list[list[str]]]:
    """Return the columns of the table, without those that would be empty, and its rows of text."""
    columns = [
        ("arm", "left", [cost.arm for cost in costs], True),
        ("measured on", "left", [cost.where.words for cost in costs], len(_places(costs)) > 1),
        ("trainings", "right", [str(cost.trainings) for cost in costs], True),
        ("epochs", "right", [str(cost.epochs) for cost in costs], len({cost.epochs for cost in costs}) > 1),
        ("time of the steps", "right", [_time(cost.step_seconds) for cost in costs], True),
        ("ratio", "right", [_ratio(cost.time_ratio) for cost in costs], True),
        ("with evaluations", "right", [_time(cost.seconds) for cost in costs], True),
        ("peak GPU memory", "right", [_memory(cost.memory_bytes) for cost in costs], _has_memory(costs)),
        ("memory ratio", "right", [_memory_ratio(cost) for cost in costs], _has_memory(costs)),
        ("in epochs with a review", "right", [_share(cost) for cost in costs], any(map(_has_share, costs))),
    ]
    shown = [(title, align, texts) for title, align, texts, wanted in columns if wanted]
    titles: Titles = [(title, "left" if align == "left" else "right") for title, align, _ in shown]
    return titles, [list(row) for row in zip(*(texts for *_, texts in shown), strict=True)]


def cost_notes(costs: Sequence[ArmCost]) -> list[str]:
    """Return the sentences under the table: how to read it, and what cannot be compared."""
    if not costs:
        return ["No training is done whose cost is known."]
    places = _places(costs)
    said = [f"Measured on {places[0]}."] if len(places) == 1 else []
    said.append("Median over the trainings that are done, and from the smallest to the largest in parentheses.")
    for base, why in distinct((cost.baseline, cost.baseline_why) for cost in costs):
        said.append(f"Ratios are those of medians to '{base}', {why}, as far as both were measured alike.")
        said += _apart([cost for cost in costs if cost.baseline == base], base)
    if not _has_memory(costs):
        on_cpu = all(cost.where.device == CPU for cost in costs)
        said.append("Memory is recorded on GPUs only." if on_cpu else "These trainings recorded no GPU memory.")
    said.append("Rows do not tell which other trials or programs used a device at the same time.")
    return said


def rich_cost_table(costs: Sequence[ArmCost]) -> Table:
    """Return the table for a terminal."""
    return drawn(TITLE, *cost_cells(costs))


def costs_as_csv(costs: Sequence[ArmCost]) -> str:
    """Return the costs as CSV, with a title line. Numbers are not rounded."""
    return csv_text([_record(cost) for cost in costs])


def _apart(costs: Sequence[ArmCost], base: str) -> list[str]:
    """Return a sentence on the arms that were measured where the baseline was not."""
    apart = [f"{cost.arm} on {cost.where.words}" for cost in costs if cost.time_ratio is None]
    own = distinct(cost.where.words for cost in costs if cost.arm == base)
    return [f"Not comparable with '{base}', which was measured on {few(own)}: {few(apart)}."] if apart else []


def _record(cost: ArmCost) -> Cells:
    return {
        "arm": cost.arm,
        "device": cost.where.device,
        "host": cost.where.host,
        "threads": cost.where.threads or None,
        "together": cost.where.together,
        "workers": cost.where.workers,
        "gpu_share": cost.where.gpu_share,
        "trainings": cost.trainings,
        "epochs": cost.epochs,
        **_ends("step_seconds", cost.step_seconds),
        **_ends("seconds", cost.seconds),
        **_ends("memory_bytes", cost.memory_bytes),
        "baseline": cost.baseline,
        "time_ratio": cost.time_ratio,
        "memory_ratio": cost.memory_ratio,
        "review_share": cost.review_share,
    }


def _ends(name: str, found: Range | None) -> Cells:
    median, low, high = (found.median, found.low, found.high) if found else (None, None, None)
    return {f"{name}_median": median, f"{name}_low": low, f"{name}_high": high}


def _places(costs: Sequence[ArmCost]) -> list[str]:
    return distinct(cost.where.words for cost in costs)


def _has_memory(costs: Sequence[ArmCost]) -> bool:
    return any(cost.memory_bytes is not None for cost in costs)


def _has_share(cost: ArmCost) -> bool:
    return cost.review_share is not None


def _time(found: Range) -> str:
    return f"{duration(found.median)} ({duration(found.low)} to {duration(found.high)})"


def _ratio(found: float | None) -> str:
    return NOT_COMPARABLE if found is None else f"{found:.2f} x"


def _memory(found: Range | None) -> str:
    if found is None:
        return MISSING
    return f"{found.median / MIB:.0f} MiB ({found.low / MIB:.0f} to {found.high / MIB:.0f})"


def _memory_ratio(cost: ArmCost) -> str:
    return MISSING if cost.memory_bytes is None else _ratio(cost.memory_ratio)


def _share(cost: ArmCost) -> str:
    return MISSING if cost.review_share is None else f"{100 * cost.review_share:.0f} % of the time"
