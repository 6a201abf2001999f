"""What the rows of a run say, in numbers and as tables: means, spreads, costs, failures; no verdicts.

Spread is the sample standard deviation over seeds (n - 1 in the denominator). A number over one seed says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from tskd_tune.distillers import DISTILLERS
from tskd_tune.errors import InputError
from tskd_tune.records.results import BEST_TEST_MARK, Row, RunFolder

Summary = dict[str, Any]
LAST_EPOCH = ("test_top1", "val_top1")
MISSING = "—"
MOST_NAMED = 4


def summary(run: RunFolder) -> Summary:
    """Return what a run has found so far, as plain data: the object that ``report --json`` prints.

    Under ``arms`` stands one mapping a trained point, in the order of the trials; those of a search are sorted by
    the searched metric. ``mean`` and ``sd`` are of ``headline``, over the seeds that are done, in percent.

    Raises:
        RunError: the rows cannot be read.
    """
    rows = sorted(run.rows(), key=lambda row: row.key)
    search = _search(run.document())
    headline = search["metric"] if search else "test_top1"
    arms = [_arm(group, headline) for group in _points(rows, bool(search))]
    _tell_apart(arms)
    baselines = _compare_costs(arms)
    return {
        "run": run.name,
        "kind": run.state.kind,
        "created": run.state.created,
        "runs": _counts(rows, run.state.expected),
        "search": search,
        "headline": headline,
        "baselines": baselines,
        "arms": _ranked(arms, search) if search else arms,
        "failed": _endings(rows, "failed"),
        "stopped": _endings(rows, "stopped"),
        "teachers": _distinct(row.teacher.plain() for row in rows if row.teacher),
        "methods": _methods(rows),
        "settings": _settings(arms),
        "warnings": _warnings(rows),
        "versions": _distinct(row.versions for row in rows),
        "commits": _distinct(row.commit for row in rows),
        "damage": run.damage(),
    }


def _points(rows: Sequence[Row], searched: bool) -> list[list[Row]]:
    """Gather the rows of each point: a search trains one a trial, a grid has a trial for each of its seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        point = row.run if searched else json.dumps([row.arm, row.point], sort_keys=True)
        groups.setdefault(point, []).append(row)
    return list(groups.values())


def _search(document: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the metric and mode of a search; None for a grid or a single training, whose arms are not ranked."""
    search = document.get("search") or {}
    if search.get("name", "grid") == "grid":
        return None
    return {"name": search["name"], "metric": search.get("metric", "val_top1"), "mode": search.get("mode", "max")}


def _arm(rows: list[Row], headline: str) -> dict[str, Any]:
    """Summarize the rows of one trial: the seeds of one point."""
    first, done = rows[0], [row for row in rows if row.status == "done"]
    metrics = {name: _statistic(row.metrics.get(name) for row in done) for name in _measured(done)}
    empty = _statistic([])
    return {
        "arm": first.arm,
        "run": first.run,
        "runs": list(dict.fromkeys(row.run for row in rows)),
        "point": first.point,
        "seeds": [row.seed for row in rows],
        **metrics.get(headline, empty),
        "metrics": metrics,
        "best_validation": _statistic(row.best_validation.val_top1 for row in done if row.best_validation),
        "best_test": _statistic(row.best_test.test_top1 for row in done if row.best_test),
        "reviews": sum(epoch < max(row.epochs for row in rows) for epoch in first.plan.review),
        "plan": first.plan.plain(),
        "epochs": [row.epochs for row in rows],
        "epochs_planned": first.epochs_planned,
        "lambda": _statistic(row.lambda_ for row in rows),
        "cost_seconds": _statistic(row.cost.seconds for row in done)["mean"],
        "cost_ratio": None,
        "peak_memory_bytes": max((row.cost.peak_memory_bytes or 0 for row in rows), default=0) or None,
        "reviewed": first.experiment.get("review") is not None,
        "setting": {part: first.experiment.get(part) for part in ("task", "student")},
        "preset": first.preset,
        "deviations": first.deviations,
        "failed": sum(row.status == "failed" for row in rows),
        "stopped": sum(row.status == "stopped" for row in rows),
        "stopped_at": _stopped_at([row for row in rows if row.status == "stopped"], headline),
    }


def _stopped_at(rows: Sequence[Row], headline: str) -> dict[str, Any] | None:
    """Return how far the stopped seeds of a point came, and the mean of the headline there."""
    if not rows:
        return None
    return {
        "epochs": max(row.epochs for row in rows),
        "mean": _statistic(row.metrics.get(headline) for row in rows)["mean"],
    }


def _measured(rows: Sequence[Row]) -> list[str]:
    names = {name for row in rows for name in row.metrics}
    return [name for name in LAST_EPOCH if name in names] + sorted(names.difference(LAST_EPOCH))


def _statistic(values: Iterable[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
    }


def _tell_apart(arms: Sequence[dict[str, Any]]) -> None:
    """Add the trial's id to a label that several points share."""
    labels = [arm["arm"] for arm in arms]
    for arm in arms:
        if labels.count(arm["arm"]) > 1:
            arm["arm"] = f"{arm['arm']} ({arm['run']})"


def _compare_costs(arms: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Fill in cost ratios within each task and student, and say to which arms they are."""
    timed = [arm for arm in arms if arm["cost_seconds"]]
    groups = _distinct(arm["setting"] for arm in timed)
    return [_compare_within([arm for arm in timed if arm["setting"] == setting]) for setting in groups]


def _compare_within(arms: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Fill in cost ratios, relative to the first arm that reviews nothing, else to the first; say which it is."""
    plain = [arm for arm in arms if not arm["reviewed"]]
    base = (plain or arms)[0]
    for arm in arms:
        arm["cost_ratio"] = arm["cost_seconds"] / base["cost_seconds"]
    return {"arm": base["arm"], "why": "the first without a review" if plain else "the first"}


def _ranked(arms: list[dict[str, Any]], search: Mapping[str, str]) -> list[dict[str, Any]]:
    """Sort points by the searched metric; behind them those that were stopped, the longest trained first."""
    sign = -1.0 if search["mode"] == "max" else 1.0

    def rank(arm: Mapping[str, Any]) -> tuple[bool, int, float, str]:
        stopped = arm["stopped_at"] or {"epochs": 0, "mean": None}
        if arm["mean"] is not None:
            return False, 0, sign * arm["mean"], arm["run"]
        return True, -stopped["epochs"], sign * (stopped["mean"] or 0.0), arm["run"]

    return sorted(arms, key=rank)


def _counts(rows: Sequence[Row], expected: int | None) -> dict[str, Any]:
    states = [row.status for row in rows]
    counted = {status: states.count(status) for status in ("done", "failed", "stopped")}
    return {"expected": expected, "finished": len(rows), **counted}


def _endings(rows: Sequence[Row], status: str) -> list[dict[str, Any]]:
    """Group the runs that ended with a status: the seeds of a trial that ended alike stand together."""

    def key(row: Row) -> tuple[str, str, int, int, str]:
        return row.run, row.arm, row.epochs, row.epochs_planned, row.reason or "no reason was given"

    found: dict[Any, list[int]] = {}
    for row in rows:
        if row.status == status:
            found.setdefault(key(row), []).append(row.seed)
    names = ("run", "arm", "epochs", "epochs_planned", "reason")
    return [{**dict(zip(names, facts, strict=True)), "seeds": seeds} for facts, seeds in found.items()]


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _methods(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Name the source of every distiller that trained, and of every part of a combination."""
    names = _distinct(name for row in rows for name in _distiller_names(row.experiment.get("distiller")))
    return [{"name": name, "source": source} for name in names if (source := _source_of(name))]


def _distiller_names(distiller: Mapping[str, Any] | None) -> list[str]:
    if distiller is None:
        return []
    return [distiller["name"], *(part["name"] for part in distiller.get("parts", {}).values())]


def _source_of(name: str) -> str | None:
    """Return the source of a distiller; None of an outsider's that is not installed here."""
    try:
        return DISTILLERS.entry(name).source
    except InputError:
        return None


def _settings(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the arms that share a preset and its deviations."""
    keys = _distinct((arm["preset"], arm["deviations"]) for arm in arms)
    return [
        {
            "preset": preset,
            "deviations": deviations,
            "arms": [arm["arm"] for arm in arms if (arm["preset"], arm["deviations"]) == (preset, deviations)],
        }
        for preset, deviations in keys
    ]


def _warnings(rows: Sequence[Row]) -> list[dict[str, Any]]:
    sentences = _distinct(sentence for row in rows for sentence in row.warnings)
    return [
        {"sentence": sentence, "arms": _distinct(row.arm for row in rows if sentence in row.warnings)}
        for sentence in sentences
    ]


# Words for numbers


def spread(statistic: Mapping[str, Any], digits: int = 2) -> str:
    """Return ``71.20 ± 0.31 (5 seeds)``, or ``71.20 (one seed, no spread)``, or a dash."""
    if statistic["mean"] is None:
        return MISSING
    if statistic["sd"] is None:
        return f"{statistic['mean']:.{digits}f} (one seed, no spread)"
    return f"{statistic['mean']:.{digits}f} ± {statistic['sd']:.{digits}f} ({statistic['n']} seeds)"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that a person would use."""
    if seconds is None:
        return MISSING
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def weight(statistic: Mapping[str, Any]) -> str:
    """Return lambda to three digits; its mean and spread over seeds where it was found anew for each."""
    if statistic["mean"] is None:
        return MISSING
    return f"{statistic['mean']:.3g}" + (f" ± {statistic['sd']:.2g}" if statistic["sd"] else "")


def value_text(value: Any, form: str = ".4g") -> str:
    """Return a value in short: floats to four digits unless ``form`` says otherwise, nothing as a dash."""
    return f"{value:{form}}" if isinstance(value, float) else MISSING if value is None else str(value)


def metric_title(name: str) -> str:
    """Return the title of a metric's column: ``test_top1`` is ``test top-1 (%)``."""
    title = name.replace("_", " ").replace("top", "top-")
    return f"{title} (%)" if "top" in name else title


# Tables


@dataclass(frozen=True)
class Column:
    """A column of the table of arms: its title and what it shows of an arm; numbers stand to the right."""

    title: str
    show: Callable[[Mapping[str, Any]], str]
    align: Literal["left", "right"] = "right"


def columns(found: Summary) -> list[Column]:
    """Return the columns of the table of arms; those that no arm fills are left out, the headline never."""
    headline = found["headline"]
    middle = [_metric_column(name) for name in LAST_EPOCH[:2] if name != headline and _anywhere(found, name)]
    best = Column("best test epoch (%) †", lambda arm: spread(arm["best_test"]))
    marked = any(arm["best_test"]["n"] for arm in found["arms"])
    sampled = found["search"] and "lambda" in _short_holes(found)
    return [
        *_naming_columns(found),
        _metric_column(headline),
        *middle,
        *([best] if marked else []),
        Column("reviews", lambda arm: str(arm["reviews"])),
        *([] if sampled else [Column("λ", lambda arm: weight(arm["lambda"]))]),
        Column("time a run", lambda arm: duration(arm["cost_seconds"])),
        Column("time ratio", lambda arm: value_text(arm["cost_ratio"], ".2f")),
        *([Column("ended early", ended_early, "left")] if any(map(ended_early, found["arms"])) else []),
    ]


def _metric_column(name: str) -> Column:
    empty = _statistic([])
    return Column(f"{metric_title(name)}, last epoch", lambda arm: spread(arm["metrics"].get(name, empty)))


def _anywhere(found: Summary, name: str) -> bool:
    return any(name in arm["metrics"] for arm in found["arms"])


def _naming_columns(found: Summary) -> list[Column]:
    if not found["search"]:
        return [Column("arm", lambda arm: arm["arm"], "left")]
    return [Column("trial", lambda arm: arm["run"], "left"), *map(_hole_column, _holes(found), _short_holes(found))]


def _holes(found: Summary) -> list[str]:
    return sorted({hole for arm in found["arms"] for hole in arm["point"]})


def _short_holes(found: Summary) -> list[str]:
    """Return the last part of each hole's path, or the path where two share it."""
    last = [hole.rpartition(".")[2] for hole in _holes(found)]
    return [hole if last.count(short) > 1 else short for hole, short in zip(_holes(found), last, strict=True)]


def _hole_column(hole: str, title: str) -> Column:
    return Column(title, lambda arm: value_text(arm["point"].get(hole)))


def ended_early(arm: Mapping[str, Any]) -> str:
    """Return how many seeds of an arm failed or were stopped, and how far those came; empty if none."""
    told = [f"{arm['failed']} failed"] if arm["failed"] else []
    if arm["stopped_at"]:
        at, value = arm["stopped_at"]["epochs"], arm["stopped_at"]["mean"]
        told.append(f"{arm['stopped']} stopped after {at} epochs" + (f" at {value:.2f}" if value is not None else ""))
    return ", ".join(told)


def cells(found: Summary) -> tuple[list[Column], list[list[str]]]:
    """Return the columns of the table of arms and its rows of text."""
    shown = columns(found)
    return shown, [[column.show(arm) for column in shown] for arm in found["arms"]]


def progress(found: Summary) -> str:
    """Return ``12 of 18 runs finished``, with how many of them failed or were stopped."""
    runs = found["runs"]
    of = f" of {runs['expected']}" if runs["expected"] is not None else ""
    told = [f"{runs[what]} {what}" for what in ("failed", "stopped") if runs[what]]
    plural = "run" if (runs["expected"] or runs["finished"]) == 1 else "runs"
    return f"{runs['finished']}{of} {plural} finished" + (f", {' and '.join(told)}" if told else "")


def notes(found: Summary) -> list[str]:
    """Return the sentences that belong under the table: how to read it, the teachers, what went wrong."""
    lines = ["Mean ± sample standard deviation over seeds; a run's value is that of its last epoch."]
    if found["search"]:
        lines.append(f"Sorted by {found['search']['metric']} ({found['search']['mode']}), never by a test metric.")
    if any(arm["best_test"]["n"] for arm in found["arms"]):
        lines.append(f"† {BEST_TEST_MARK}.")
    if found["baselines"]:
        lines.append(_ratio_line(found["baselines"]))
    lines += [teacher_line(teacher) for teacher in found["teachers"]]
    return [*lines, *found["damage"]]


def _ratio_line(baselines: Sequence[Mapping[str, str]]) -> str:
    first = baselines[0]
    if len(baselines) == 1:
        return f"Time ratios are to '{first['arm']}', {first['why']}."
    arms = ", ".join(f"'{base['arm']}'" for base in baselines)
    return (
        f"Time ratios are within one task and student, to the first arm there, without a review if it can be: {arms}."
    )


def teacher_line(teacher: Mapping[str, Any]) -> str:
    """Return a sentence on a teacher: its accuracy, where it came from and its size."""
    origin = f"trained here, key {teacher['key']}" if teacher["source"] == "auto" else teacher["source"]
    size = f", {teacher['parameters'] / 1e6:.2f} M parameters" if teacher["parameters"] else ""
    accuracy = (
        f"test top-1 {teacher['test_top1']:.2f} %" if teacher["test_top1"] is not None else "accuracy not measured"
    )
    return f"Teacher {teacher['name']}: {accuracy} ({origin}{size})."


def ending_lines(found: Summary) -> list[str]:
    """Return a sentence for every run that failed or was stopped, with its reason."""
    return [
        f"{end['arm']}, {_seeds(end['seeds'])} (trial {end['run']}) {word} after {end['epochs']} of "
        f"{end['epochs_planned']} epochs: {end['reason']}"
        for word, ends in (("failed", found["failed"]), ("was stopped", found["stopped"]))
        for end in ends
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def setting_lines(found: Summary) -> list[str]:
    """Return a sentence for each preset with its deviations, naming the arms that share them."""
    return [
        f"{'; '.join(item['arms'])}: preset {item['preset']}; {'; '.join(item['deviations']) or 'no deviation'}"
        for item in found["settings"]
    ]


def method_lines(found: Summary) -> list[str]:
    """Return a line for each distiller that trained: whose method it is, and whose reading of it."""
    return [f"{method['name']}: {method['source']}" for method in found["methods"]]


def warning_lines(found: Summary) -> list[str]:
    """Return the warnings of the runs, each once, with the arms that it concerns."""
    return [f"{item['sentence']} ({_few(item['arms'])})" for item in found["warnings"]]


def _few(arms: Sequence[str]) -> str:
    shown = list(arms[:MOST_NAMED])
    rest = len(arms) - len(shown)
    return "; ".join(shown) + (f" and {rest} more" if rest else "")


def markdown(found: Summary) -> str:
    """Return the report as Markdown, the same bytes for the same summary."""
    shown, rows = cells(found)
    parts = [f"# {_plain(found['run'])}", f"{progress(found)}."]
    if rows:
        parts.append("\n".join(_markdown_table(shown, rows)))
    parts.append("\n".join(f"- {_plain(line)}" for line in notes(found)) if rows else "No run has finished yet.")
    for title, lines in (
        ("Failed and stopped", ending_lines(found)),
        ("Warnings", warning_lines(found)),
        ("Methods", method_lines(found)),
        ("Presets and deviations", setting_lines(found)),
        ("Versions", version_lines(found)),
    ):
        if lines:
            parts.append(f"## {title}\n\n" + "\n".join(f"- {_plain(line)}" for line in lines))
    return "\n\n".join(parts) + "\n"


def version_lines(found: Summary) -> list[str]:
    """Return a line for each set of versions, and one for the commits."""
    lines = [", ".join(f"{name} {number}" for name, number in versions.items()) for versions in found["versions"]]
    commits = [commit or "unknown (the code was no git checkout)" for commit in found["commits"]]
    return lines + ([f"commit {', '.join(commits)}"] if commits else [])


def _markdown_table(shown: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---:" if column.align == "right" else "---" for column in shown]
    lines = [[_plain(column.title) for column in shown], rule, *([_plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Keep text that others gave from being read as Markdown or HTML."""
    one_line = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        one_line = one_line.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return one_line


def rich_table(found: Summary) -> Table:
    """Return the table of arms for a terminal."""
    table = Table(title=Text(f"{found['run']}: {progress(found)}"), title_justify="left")
    shown, rows = cells(found)
    for column in shown:
        table.add_column(Text(column.title), justify=column.align, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
