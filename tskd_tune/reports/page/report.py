"""The report of a run: one HTML page that needs no network, verdicts first, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tskd_tune import documents
from tskd_tune.files import write_whole
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.reports.findings import effects, importance, pareto
from tskd_tune.reports.forms import tables
from tskd_tune.reports.forms.words import MOST_ARMS
from tskd_tune.reports.judge import verdicts
from tskd_tune.reports.judge.statistics import Contrast, contrast
from tskd_tune.reports.page import charts, effect_charts, figures
from tskd_tune.reports.page.forest import forest
from tskd_tune.reports.page.plan_strip import strips

MOST_OPEN = 12
MOST_FIGURES = 3
BADGES = ("resolved", "equivalent", "undecided", "smoke")


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
    """Return the page of a run whose summary is at hand; a section stands where there is something to show in it."""
    rows = sorted(run.rows(), key=lambda row: row.key)
    arms = [charts.curves(arm["arm"], _history(run, arm["runs"])) for arm in found["arms"]]
    drawn = arms[:MOST_ARMS]
    experiments = {row.run: row.experiment for row in rows}
    columns, lines = tables.cells(found)
    drawings = {
        "accuracy": _accuracy(drawn),
        # Two trials of a search that differ in one thing do so by chance.
        "sequences": None if found["search"] else _sequences(found, rows, arms, experiments),
        "responses": [] if found["search"] else _responses(found, experiments),
        "slices": _slices(found) if found["search"] else [],
        "costs": _costs(found),
        "importances": _importances(found),
        "gap": _gap(arms),
        "telemetry": [(item, _drawn(item.figure, item.name)) for item in charts.telemetry(_reviewing(arms))],
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__ or "").joinpath("page.html.j2").read_text("utf-8"))
    return template.render(
        found=found,
        verdicts=_verdicts(found),
        settings=_settings(found),
        columns=columns,
        rows=lines,
        tables=tables,
        importance_lines=importance.lines(found),
        drawn=len(drawn),
        **drawings,
        legend=_legend(arms),
        plans=strips(found["arms"]),
        runs=[_run_line(row, found["versions"]) for row in rows],
        run_titles=_run_titles(found["versions"]),
        configs=_configs(found["arms"], experiments),
        versions=_version_lines(found),
        plotly=Markup(get_plotlyjs()) if any(drawings.values()) else "",
        minute=minute,
    )


def _drawn(figure: Any, name: str) -> Markup:
    return Markup(figures.as_html(figure, name))


# Verdicts


def _verdicts(found: tables.Summary) -> dict[str, Any] | None:
    """Return what the page shows of the family; None where nothing is compared."""
    family = found["family"]
    if not family:
        return None
    findings = family["findings"]
    layout = forest(findings, family["margin"])
    items = [
        {
            "badge": finding["verdict"] or "smoke",
            "title": f"{finding['contrast']['arm']} against {finding['contrast']['baseline']}",
            "sentence": _without_title(finding),
            "strip": strip,
        }
        for finding, strip in zip(findings, layout.strips, strict=True)
    ]
    counts = [(badge, sum(item["badge"] == badge for item in items)) for badge in BADGES]
    return {
        "open": items[:MOST_OPEN],
        "folded": items[MOST_OPEN:],
        "counts": [(badge, count) for badge, count in counts if count],
        "layout": layout,
        "margin": family["margin"],
        "notes": _under_verdicts(family),
    }


def _without_title(finding: Mapping[str, Any]) -> str:
    """Return a finding's sentence without the two arms, which stand above it."""
    arms, sentence = finding["contrast"], str(finding["sentence"])
    found = sentence.removeprefix(f"'{arms['arm']}' against '{arms['baseline']}': ")
    return found[:1].upper() + found[1:]


def _under_verdicts(family: Mapping[str, Any]) -> list[str]:
    """Return what is under the verdicts: what the design can see, who declared the family, looks, seeds left out."""
    return [family["sentence"], *family.get("notes", [])]


# Figures


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
    return {"metric": tables.metric_title(metric), "html": _drawn(charts.accuracy(arms, metric), "accuracy")}


def _reviewing(arms: Sequence[charts.Curves]) -> list[charts.Curves]:
    """Return the arms up to the last of the first eight that review, so that their places keep their colors."""
    places = [index for index, arm in enumerate(arms) if arm.review_epochs()][:MOST_ARMS]
    return list(arms[: places[-1] + 1]) if places else []


def _legend(arms: Sequence[charts.Curves]) -> list[dict[str, str]]:
    """Return the look of each arm in what the reviews showed."""
    return [
        {"arm": arm.arm, **figures.look(index)} for index, arm in enumerate(_reviewing(arms)) if arm.review_epochs()
    ]


def _sequences(
    found: tables.Summary,
    rows: Sequence[Row],
    arms: Sequence[charts.Curves],
    experiments: effects.Experiments,
) -> dict[str, Any] | None:
    """Set each arm of increments against its twin of feature maps: sentences, curves, and differences by epoch."""
    pairs = effects.sequence_pairs(found["arms"], experiments)
    if not pairs:
        return None
    shown = [charts.Pair(arms[pair.increment], arms[pair.feature_map]) for pair in pairs[:MOST_ARMS]]
    metric = charts.accuracy_metric([arm for pair in shown for arm in (pair.increment, pair.feature_map)])
    margin = (found["family"] or {}).get("margin")
    paired = metric is not None and any(pair.differences(metric) for pair in shown)
    return {
        "sentences": [
            _sequence_sentence(found, rows, found["arms"][pair.increment], found["arms"][pair.feature_map])
            for pair in pairs
        ],
        "metric": tables.metric_title(metric) if metric else None,
        "margin": margin,
        "curves": _drawn(charts.sequences(shown, metric), "sequences") if metric else None,
        "differences": _drawn(charts.sequence_differences(shown, metric, margin), "sequence-differences")
        if metric and paired
        else None,
    }


def _sequence_sentence(
    found: tables.Summary, rows: Sequence[Row], increment: Mapping[str, Any], feature_map: Mapping[str, Any]
) -> str:
    """Name the family's verdict on two arms where it has one; else say their paired difference, without a verdict."""
    names = {increment["arm"], feature_map["arm"]}
    for finding in (found["family"] or {"findings": []})["findings"]:
        if {finding["contrast"]["arm"], finding["contrast"]["baseline"]} == names:
            head = f"'{finding['contrast']['arm']}' against '{finding['contrast']['baseline']}'"
            return f"{head}: {finding['verdict'] or 'no verdict'}, see the verdicts."
    values = [_by_seed(rows, arm, found["headline"]) for arm in (increment, feature_map)]
    between = contrast(values[0], values[1], arm=increment["arm"], baseline=feature_map["arm"])
    return _difference_sentence(between)


def _by_seed(rows: Sequence[Row], arm: Mapping[str, Any], metric: str) -> dict[int, float]:
    mine = [row for row in rows if row.run in arm["runs"] and row.status == "done"]
    return {row.seed: value for row in mine if (value := row.metrics.get(metric)) is not None}


def _difference_sentence(between: Contrast) -> str:
    head = f"'{between.arm}' against '{between.baseline}'"
    if between.difference is None:
        return f"{head}: no seed has finished in both arms."
    interval = between.interval
    spread = f"95 % interval {interval.low:+.2f} to {interval.high:+.2f}, " if interval else ""
    how = "paired" if between.paired else "unpaired"
    seeds = verdicts.seeds_text(between.n)
    return f"{head}: {verdicts.points(between.difference)} ({spread}{seeds}, {how}). Not in the family of the verdicts."


def _responses(found: tables.Summary, experiments: effects.Experiments) -> list[dict[str, Any]]:
    """Draw how the headline responds to k and to delta, for the first groups of arms that differ in nothing else."""
    title = tables.metric_title(found["headline"])
    return [
        {
            "along": effect_charts.BY_K_OR_DELTA[along],
            "arms": [point.arm for point in group.points],
            "matched": [
                (reviews, [f"k {point.k}, δ {point.delta}" for point in points])
                for reviews, points in group.matched().items()
            ],
            "html": _drawn(effect_charts.response(group, along, title), f"response-{index}-{along}"),
        }
        for index, group in enumerate(effects.responses(found["arms"], experiments)[:MOST_FIGURES])
        for along in group.varied
    ]


def _slices(found: tables.Summary) -> list[Markup]:
    """Draw the headline of every trial against each parameter."""
    title, slices = tables.metric_title(found["headline"]), effects.slices(found["arms"])
    return [_drawn(effect_charts.sliced(one, title), f"slice-{index}") for index, one in enumerate(slices)]


def _costs(found: tables.Summary) -> list[dict[str, Any]]:
    """Draw the first fronts, each with its metric against every other objective."""
    return [
        {
            "html": _drawn(_cost(found, front, cost), f"costs-{index}-{cost}"),
            "objectives": ", ".join(f"{name} ({mode})" for name, mode in front["objectives"].items()),
            "joined": len(front["objectives"]) == 2,
            "front": _front_lines(front) if place == 0 else [],
            "left_out": [f"{other['arm']}: {other['reason']}" for other in front["left_out"]] if place == 0 else [],
            "beaten": len(front["points"]) - len(front["front"]),
        }
        for index, front in enumerate(found["pareto"][:MOST_FIGURES])
        for place, cost in enumerate(name for name in front["objectives"] if name != front["metric"])
    ]


def _cost(found: tables.Summary, front: Mapping[str, Any], cost: str) -> Any:
    places = {point["run"]: number for number, point in enumerate(_on_front(front), start=1)}
    intervals = {arm["runs"][0]: effects.interval(arm) for arm in found["arms"] if arm["n"] >= figures.LEAST_BAND}
    points = [
        effect_charts.Costed(
            arm=point["arm"],
            cost=point["values"][cost],
            value=point["values"][front["metric"]],
            interval=intervals.get(point["run"]),
            front=places.get(point["run"]),
        )
        for point in front["points"]
    ]
    title = cost if cost in pareto.COSTS else tables.metric_title(cost)
    return effect_charts.costs(
        points, tables.metric_title(front["metric"]), title, joined=len(front["objectives"]) == 2
    )


def _on_front(front: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the points of a front in ascending order of the first objective that is not its metric."""
    cost = next(name for name in front["objectives"] if name != front["metric"])
    return sorted((point for point in front["points"] if point["on_front"]), key=lambda point: point["values"][cost])


def _front_lines(front: Mapping[str, Any]) -> list[str]:
    return [f"{point['arm']}: {pareto.values_text(point)}" for point in _on_front(front)]


def _importances(found: tables.Summary) -> list[dict[str, Any]]:
    """Draw how much each parameter matters for each objective, among all trials and in each branch."""
    groups = [
        (metric["metric"], group)
        for metric in (found["importance"] or {"metrics": []})["metrics"]
        for group in metric["groups"]
        if len(group["shares"]) > 1
    ]
    return [
        {
            "metric": tables.metric_title(metric),
            "where": ", ".join(f"{name}={value}" for name, value in group["where"].items()),
            "trials": group["trials"],
            "html": _drawn(effect_charts.shares(_shares(group["shares"])), f"importance-{index}"),
        }
        for index, (metric, group) in enumerate(groups[:MOST_FIGURES])
    ]


def _shares(found: Sequence[Mapping[str, Any]]) -> effect_charts.Shares:
    return effect_charts.Shares(
        [share["parameter"] for share in found],
        *([share[method] or 0.0 for share in found] for method in importance.METHODS),
    )


def _gap(arms: Sequence[charts.Curves]) -> dict[str, Any] | None:
    """Draw the gap to the teacher against L_ST, and say which arms show the method's failure signature."""
    figure = charts.gaps(_reviewing(arms))
    if figure is None:
        return None
    signatures = [found for arm in arms if (found := effects.signature(arm.arm, arm.seeds))]
    return {
        "html": _drawn(figure, "gap"),
        "failed": [found.sentence for found in signatures if found.failed],
        "others": [found.sentence for found in signatures if not found.failed],
    }


# Every run


def _run_titles(versions: Sequence[Any]) -> list[str]:
    titles = ["trial", "arm", "seed", "status", "epochs", "test top-1", "val top-1", "time", "device", "peak memory"]
    return [*titles, "commit", *(["versions"] if len(versions) > 1 else []), "finished"]


def _run_line(row: Row, versions: Sequence[Any]) -> list[str]:
    """Return the cells of a row in the table of all runs; where versions differ, the number of its set."""
    accuracy = row.metrics.get("test_top1")
    return [
        row.run,
        row.arm,
        str(row.seed),
        "broke" if row.broke else row.status,
        f"{row.epochs} of {row.epochs_planned}",
        tables.value_text(accuracy, ".2f"),
        tables.value_text(row.metrics.get("val_top1"), ".2f"),
        tables.duration(row.cost.seconds),
        f"{row.cost.device}, {row.cost.threads} thread{'s' if row.cost.threads > 1 else ''}",
        tables.MISSING if row.cost.peak_memory_bytes is None else f"{row.cost.peak_memory_bytes / 2**20:.0f} MiB",
        (row.commit or tables.MISSING)[:10] + ("-dirty" if (row.commit or "").endswith("-dirty") else ""),
        *([str(versions.index(row.versions) + 1)] if len(versions) > 1 else []),
        minute(row.finished),
    ]


def _configs(arms: Sequence[Mapping[str, Any]], experiments: effects.Experiments) -> list[dict[str, Any]]:
    """Return the resolved experiment of each arm as YAML; its seeds stand beside it."""
    return [
        {
            "arm": arm["arm"],
            "seeds": ", ".join(map(str, arm["seeds"])),
            "trials": ", ".join(arm["runs"]),
            "yaml": documents.dump({name: value for name, value in experiments[arm["run"]].items() if name != "seed"}),
        }
        for arm in arms
    ]


def _settings(found: tables.Summary) -> list[tuple[str, str]]:
    """Return what differs from the preset, by who differs."""
    parts = [line.partition(": ") for line in tables.setting_lines(found)]
    return [(who, what) for who, _, what in parts]


def _version_lines(found: tables.Summary) -> list[str]:
    """Return the versions and commits; sets of versions have the numbers that the table of runs gives."""
    lines, sets = tables.version_lines(found), len(found["versions"])
    return [f"{number}: {line}" if number <= sets > 1 else line for number, line in enumerate(lines, start=1)]
