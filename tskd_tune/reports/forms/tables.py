"""What a run has found, as tables and lines: for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from tskd_tune.records.row import BEST_TEST_MARK
from tskd_tune.reports.findings import importance, pareto, scale
from tskd_tune.reports.findings.summary import LAST_EPOCH, Summary, statistic, summary
from tskd_tune.reports.forms.head_lines import head_lines, setting_lines, teacher_line
from tskd_tune.reports.forms.words import MISSING, duration, interval, metric_title, spread, value_text, weight

__all__ = [
    "MISSING",
    "Align",
    "Column",
    "Summary",
    "cells",
    "columns",
    "drawn",
    "duration",
    "ended_early",
    "ending_lines",
    "head_lines",
    "interval",
    "markdown",
    "markdown_table",
    "method_lines",
    "metric_title",
    "notes",
    "pooled_lines",
    "progress",
    "purpose",
    "rich_table",
    "setting_lines",
    "spread",
    "summary",
    "teacher_line",
    "under_table",
    "value_text",
    "verdict_lines",
    "version_lines",
    "warning_lines",
    "weight",
]

MOST_NAMED = 4
# Epochs other than the last, by their keys in the summary.
CHOSEN_EPOCHS = {
    "validation_selected": "test top-1 (%), best validation epoch",
    "best_test": "test top-1 (%), best test epoch †",
}
Align = Literal["left", "right"]


@dataclass(frozen=True)
class Column:
    """A column of the table of arms: its title and what it shows of an arm; numbers stand to the right."""

    title: str
    show: Callable[[Mapping[str, Any]], str]
    align: Align = "right"


_INTERVAL = Column("95 % interval", lambda arm: interval(arm["statistics"]))


def columns(found: Summary) -> list[Column]:
    """Return the columns of the table of arms; those that no arm fills are left out, the headline never."""
    headline = found["headline"]
    middle = [_metric_column(name) for name in LAST_EPOCH[:2] if name != headline and _anywhere(found, name)]
    chosen = [_epoch_column(key) for key in CHOSEN_EPOCHS if _measured_throughout(found, key)]
    sampled = found["search"] and "lambda" in _short_holes(found)
    return [
        *_naming_columns(found),
        _metric_column(headline),
        *([_INTERVAL] if any(arm["statistics"]["interval"] for arm in found["arms"]) else []),
        *middle,
        *chosen,
        Column("reviews", lambda arm: str(arm["reviews"])),
        *([] if sampled else [Column("λ", lambda arm: weight(arm["lambda"]))]),
        Column("time a run", lambda arm: duration(arm["cost_seconds"])),
        Column("time ratio", lambda arm: value_text(arm["cost_ratio"], ".2f")),
        *([Column("ended early", ended_early, "left")] if any(map(ended_early, found["arms"])) else []),
    ]


def _metric_column(name: str) -> Column:
    empty = statistic([])
    return Column(f"{metric_title(name)}, last epoch", lambda arm: spread(arm["metrics"].get(name, empty)))


def _measured_throughout(found: Summary, key: str) -> bool:
    """Tell whether all seeds of an arm have it, if any has: where the test part is read once, some have it by luck."""
    measured = [arm for arm in found["arms"] if arm[key]["n"]]
    return bool(measured) and all(arm[key]["n"] == arm["n"] for arm in measured)


def _epoch_column(key: str) -> Column:
    return Column(CHOSEN_EPOCHS[key], lambda arm: spread(arm[key]))


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
    diverged = arm["failed"] - arm["broke"]
    told = [f"{count} {how}" for count, how in ((diverged, "failed"), (arm["broke"], "broke")) if count]
    if arm["stopped_at"]:
        at, value = arm["stopped_at"]["epochs"], arm["stopped_at"]["mean"]
        told.append(f"{arm['stopped']} stopped after {at} epochs" + (f" at {value:.2f}" if value is not None else ""))
    return ", ".join(told)


def cells(found: Summary) -> tuple[list[Column], list[list[str]]]:
    """Return the columns of the table of arms and its rows of text."""
    shown = columns(found)
    return shown, [[column.show(arm) for column in shown] for arm in found["arms"]]


def verdict_lines(found: Summary) -> list[str]:
    """Return a sentence for each contrast, then what else to know of them; or the reason why nothing is compared."""
    family = found["family"]
    if family is None:
        return [found["family_reason"]]
    return [*(finding["sentence"] for finding in family["findings"]), *family["notes"]]


def pooled_lines(found: Summary) -> list[str]:
    """Return a sentence for each method that was compared in several pairs, and how to read them."""
    pooled = (found["family"] or {}).get("pooled")
    if not pooled:
        return []
    return [
        *(one["sentence"] for one in pooled),
        "They sum up the contrasts above and have no verdict of their own.",
    ]


def under_table(found: Summary) -> list[str]:
    """Return the lines that stand under the table of arms: first the smallest difference that the design can see."""
    visible = [found["family"]["sentence"]] if found["family"] else []
    return [*visible, *_lacking_intervals(found), *notes(found)]


def _lacking_intervals(found: Summary) -> list[str]:
    """Return each reason why an arm lacks an interval, with the arms that it concerns."""
    arms: dict[str, list[str]] = {}
    for arm in found["arms"]:
        if note := arm["statistics"]["note"]:
            arms.setdefault(note, []).append(arm["arm"])
    return [f"{note[0].upper()}{note[1:]} ({_few(names)})." for note, names in arms.items()]


def progress(found: Summary) -> str:
    """Return ``12 of 18 runs finished``, how many of them failed or were stopped, and what became of the others."""
    runs = found["runs"]
    of = f" of {runs['expected']}" if runs["expected"] is not None else ""
    told = [f"{runs[what]} {what}" for what in ("failed", "stopped") if runs[what]]
    plural = "run" if (runs["expected"] or runs["finished"]) == 1 else "runs"
    others = [f"{runs[what]} {what}" for what in ("broke", "unfinished") if runs[what]]
    if others and runs["not_begun"]:
        others.append(f"{runs['not_begun']} not begun")
    ended = f"{runs['finished']}{of} {plural} finished" + (f", {' and '.join(told)}" if told else "")
    return "; ".join([ended, ", ".join(others)]) if others else ended


def purpose(found: Summary) -> list[str]:
    """Return a sentence on what a run is for, where that is known."""
    search = found["confirms"]
    return [f"It trains the winners of '{search}' anew, on seeds that did not choose them."] if search else []


def notes(found: Summary) -> list[str]:
    """Return the sentences that belong under the table: how to read it, and what went wrong."""
    lines = ["Mean ± sample standard deviation over seeds; a run's value is that of its last epoch."]
    if found["search"]:
        lines.append(f"Sorted by {found['search']['metric']} ({found['search']['mode']}), never by a test metric.")
    if _measured_throughout(found, "best_test"):
        lines.append(f"† {BEST_TEST_MARK}.")
    if found["baselines"]:
        lines.append(_ratio_line(found["baselines"]))
    if any(arm["statistics"].get("beyond") for arm in found["arms"]):
        lines.append(scale.NOTE)
    return [*lines, *found["damage"]]


def _ratio_line(baselines: Sequence[Mapping[str, str]]) -> str:
    first = baselines[0]
    if len(baselines) == 1:
        return f"Time ratios are to '{first['arm']}', {first['why']}."
    arms = ", ".join(f"'{base['arm']}'" for base in baselines)
    return (
        f"Time ratios are within one task and student, to the first arm there, without a review if it can be: {arms}."
    )


def ending_lines(found: Summary) -> list[str]:
    """Return a sentence with the reason for each teacher that broke, and each run that did not end as planned."""
    failed = [end for end in found["failed"] if not end["broke"]]
    broke = [end for end in found["failed"] if end["broke"]]
    return [
        *map(broken_teacher_line, found["broken_teachers"]),
        *(_ending(end, "failed") for end in failed),
        *(f"{_ending(end, 'broke')}{_whole_error(end)}" for end in broke),
        *(_ending(end, "was stopped") for end in found["stopped"]),
        *map(_unfinished, found["unfinished"]),
    ]


def broken_teacher_line(teacher: Mapping[str, Any]) -> str:
    """Return a sentence on a teacher whose training broke, from its `Teaching` as plain data."""
    return (
        f"teacher {teacher['name']} broke after {teacher['epochs']} of {teacher['planned']} epochs: {teacher['reason']}"
        " (`tskd-tune resume` trains the teacher again)"
    )


def _ending(end: Mapping[str, Any], word: str) -> str:
    return (
        f"{end['arm']}, {_seeds(end['seeds'])} (trial {end['run']}) {word} after {end['epochs']} of "
        f"{end['epochs_planned']} epochs: {end['reason']}"
    )


def _whole_error(end: Mapping[str, Any]) -> str:
    errors = f"; the whole error: {', '.join(end['errors'])}" if end["errors"] else ""
    return f" (`tskd-tune resume` trains it again{errors})"


def _unfinished(training: Mapping[str, Any]) -> str:
    arm = f"{training['arm']}, seed" if training["arm"] else "seed"
    of = f" of {training['epochs_planned']}" if training["epochs_planned"] else ""
    return (
        f"{arm} {training['seed']} (trial {training['run']}) is unfinished after {training['epochs']}{of} epochs: it"
        " runs now, or was cut off and goes on with `tskd-tune resume`"
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


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
    parts = [f"# {_plain(found['run'])}", " ".join([f"{progress(found)}.", *map(_plain, purpose(found))])]
    if head_lines(found):
        parts.append(_bullets(head_lines(found)))
    if rows:
        parts.append("## Verdicts\n\n" + _bullets(verdict_lines(found)))
        parts.append("## Arms\n\n" + "\n".join(markdown_table([(c.title, c.align) for c in shown], rows)))
    parts.append(_bullets(under_table(found)) if rows else "No run has finished yet.")
    for title, lines in (
        ("Over the pairs of teacher and student", pooled_lines(found)),
        ("Pareto front", pareto.lines(found)),
        ("Parameter importance", importance.lines(found)),
        ("Failed, stopped and unfinished", ending_lines(found)),
        ("Warnings", warning_lines(found)),
        ("Methods", method_lines(found)),
        ("Presets and deviations", setting_lines(found)),
        ("Versions", version_lines(found)),
    ):
        if lines:
            parts.append(f"## {title}\n\n{_bullets(lines)}")
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def version_lines(found: Summary) -> list[str]:
    """Return a line for each set of versions, and one for the commits."""
    lines = [", ".join(f"{name} {number}" for name, number in versions.items()) for versions in found["versions"]]
    commits = [commit or "unknown (the code was no git checkout)" for commit in found["commits"]]
    return lines + ([f"commit {', '.join(commits)}"] if commits else [])


def markdown_table(titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; ``titles`` says on which side a column stands."""
    rule = ["---:" if align == "right" else "---" for _, align in titles]
    lines = [[_plain(title) for title, _ in titles], rule, *([_plain(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _plain(text: str) -> str:
    """Keep text that others gave from being read as Markdown or HTML."""
    one_line = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        one_line = one_line.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return one_line


def rich_table(found: Summary) -> Table:
    """Return the table of arms for a terminal."""
    shown, rows = cells(found)
    return drawn(f"{found['run']}: {progress(found)}", [(column.title, column.align) for column in shown], rows)


def drawn(title: str, titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]]) -> Table:
    """Return any table for a terminal; ``titles`` says on which side a column stands."""
    table = Table(title=Text(title), title_justify="left")
    for name, align in titles:
        table.add_column(Text(name), justify=align, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
