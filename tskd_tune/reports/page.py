"""The report of a run: one HTML page that needs no network, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tskd_tune.files import write_whole
from tskd_tune.records.results import Row, RunFolder
from tskd_tune.reports import charts, tables


def write_report(run: RunFolder) -> Path:
    """Write ``report.html`` and ``report.md`` into the run's folder; return the path of the page.

    The same rows and histories give the same bytes.

    Raises:
        RunError: the records cannot be read, or the folder cannot be written.
    """
    found = tables.summary(run)
    write_whole(run.path / "report.md", tables.markdown(found))
    path = run.path / "report.html"
    write_whole(path, html(run, found))
    return path


def html(run: RunFolder, found: tables.Summary) -> str:
    """Return the page of a run whose summary is at hand."""
    arms = [charts.curves(arm["arm"], _history(run, arm["runs"])) for arm in found["arms"][: charts.MOST_ARMS]]
    shown, rows = tables.cells(found)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__ or "").joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        found=found,
        columns=shown,
        rows=rows,
        tables=tables,
        drawn=len(arms),
        accuracy=_accuracy(arms),
        telemetry=[(item, Markup(charts.as_html(item.figure, item.name))) for item in charts.telemetry(arms)],
        plans=[_plan(arm) for arm in _plans(found["arms"])],
        runs=[_run_line(row) for row in sorted(run.rows(), key=lambda row: row.key)],
        plotly=Markup(get_plotlyjs()) if any(arm.seeds for arm in arms) else "",
        colors=charts.COLORS,
        minute=minute,
    )


def minute(time: str) -> str:
    """Return an ISO 8601 time to the minute, for people."""
    return time[:16].replace("T", " ")


def _history(run: RunFolder, trials: Sequence[str]) -> list[dict[str, Any]]:
    """Gather what the trials of an arm wrote: one that carries its seeds, or one a seed."""
    return [line for trial in trials for line in run.history(trial)]


def _accuracy(arms: Sequence[charts.Curves]) -> dict[str, Any] | None:
    metric = charts.accuracy_metric(arms)
    if metric is None:
        return None
    return {
        "metric": tables.metric_title(metric),
        "html": Markup(charts.as_html(charts.accuracy(arms, metric), "accuracy")),
    }


def _plans(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the arms that follow the same plan; arms without a review have none to draw."""
    found: list[dict[str, Any]] = []
    for arm in arms:
        if not arm["plan"]["review"] and not arm["plan"]["memorize"]:
            continue
        plan = {**arm["plan"], "epochs": arm["epochs_planned"]}
        same = next((group for group in found if group["plan"] == plan), None)
        if same is None:
            found.append({"plan": plan, "arms": [arm["arm"]]})
        else:
            same["arms"].append(arm["arm"])
    return found


@dataclass(frozen=True)
class Mark:
    """A stroke in the drawing of a plan, in percent of its width."""

    left: float
    width: float
    kind: str


def _plan(group: Mapping[str, Any]) -> dict[str, Any]:
    plan = group["plan"]
    step = 100 / max(plan["epochs"], 1)
    width = max(step, 0.45)
    marks = [
        Mark(round(epoch * step, 3), round(width, 3), kind) for kind in ("memorize", "review") for epoch in plan[kind]
    ]
    return {**plan, "arms": group["arms"], "marks": marks}


def _run_line(row: Row) -> list[str]:
    """Return the cells of a row in the table of all runs."""
    accuracy = row.metrics.get("test_top1")
    return [
        row.run,
        row.arm,
        str(row.seed),
        row.status,
        f"{row.epochs} of {row.epochs_planned}",
        tables.value_text(accuracy, ".2f"),
        tables.value_text(row.metrics.get("val_top1"), ".2f"),
        tables.duration(row.cost.seconds),
        f"{row.cost.device}, {row.cost.threads} thread{'s' if row.cost.threads > 1 else ''}",
        tables.MISSING if row.cost.peak_memory_bytes is None else f"{row.cost.peak_memory_bytes / 2**20:.0f} MiB",
        (row.commit or tables.MISSING)[:10] + ("-dirty" if (row.commit or "").endswith("-dirty") else ""),
        minute(row.finished),
    ]
