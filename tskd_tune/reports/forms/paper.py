"""A table of the TSKD paper with what a run has measured beside its cells: never a verdict, always marked.

Which arm belongs to which cell is read off its resolved experiment, by the conditions in ``paper_tables.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from tskd_tune import documents
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.records.row import BEST_TEST_MARK
from tskd_tune.records.run_folder import RunFolder
from tskd_tune.reports.findings.summary import Summary, statistic
from tskd_tune.reports.forms.exports import csv_text, latex_table
from tskd_tune.reports.forms.tables import Align, drawn, markdown_table
from tskd_tune.reports.forms.words import MISSING, interval, spread

SOURCE = "arXiv 2307.00811v1"
TITLES: list[tuple[str, Align]] = [
    ("networks", "left"),
    ("cell", "left"),
    ("paper ‡", "right"),
    ("ours, last epoch", "right"),
    ("95 % interval", "right"),
    ("ours, best test epoch †", "right"),
    ("arm", "left"),
    ("mind", "left"),
]
_GONE = object()


@cache
def paper_tables() -> Mapping[str, Any]:
    """Return the paper's tables by name."""
    return documents.read(Path(__file__).with_name("paper_tables.yaml"))


def named(name: str) -> str:
    """Return the full name of a table that goes by it, or by its number: ``table6``.

    Raises:
        InputError: the paper has no such table.
    """
    for full in paper_tables():
        if name in (full, full.partition("_")[0]):
            return full
    raise InputError(f"--paper: there is no table '{name}'{did_you_mean(name, map(_short, paper_tables()))}")


def _short(full: str) -> str:
    return full.partition("_")[0]


def beside(run: RunFolder, found: Summary, name: str) -> dict[str, Any]:
    """Return a table of the paper with the arms of a run beside its cells, as plain data.

    Each of ``cells`` has ``column``, ``row``, ``paper`` (the number as printed) and ``ours``, a mapping for every arm
    that belongs there: ``arm``, the last epoch's ``n``, ``mean``, ``sd`` and ``interval``, ``best_test``,
    ``comparable`` (the same data) and ``mind``, sentences on what differs. ``alone`` says why no arm stands anywhere;
    it is empty where one does.

    Raises:
        InputError: the paper has no such table.
        RunError: the rows cannot be read.
    """
    full = named(name)
    table = paper_tables()[full]
    experiments = {row.run: row.experiment for row in run.rows()}
    arms = [(arm, experiments[arm["run"]]) for arm in found["arms"]]
    cells = [
        {
            "column": column["title"],
            "row": row["title"],
            "paper": row["values"][index],
            "ours": _ours(arms, found, table, row, column),
        }
        for row in table["rows"]
        for index, column in enumerate(table["columns"])
    ]
    runs = f"{table['runs']} runs" if table.get("runs") else "number of runs not stated"
    return {
        "table": full,
        "title": table["title"],
        "metric": table["metric"],
        "mark": f"paper, {runs}, no spread ({SOURCE})",
        "cells": cells,
        "alone": "" if any(cell["ours"] for cell in cells) else _alone(experiments.values()),
        "footnotes": list(table["footnotes"]),
    }


def _alone(experiments: Iterable[Mapping[str, Any]]) -> str:
    """Say that none of these experiments belongs beside a cell, with the networks that they have."""
    pairs = dict.fromkeys(
        f"{(experiment.get('teacher') or {}).get('name', 'no teacher')} → {experiment['student']['name']}"
        for experiment in experiments
    )
    return (
        f"No arm of this run has the networks and the method of a cell: it has {', '.join(pairs) or 'no finished run'}."
        " The search spaces that are called table... (`tskd-tune init`) train what the cells name."
    )


def _ours(
    arms: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    found: Summary,
    table: Mapping[str, Any],
    row: Mapping[str, Any],
    column: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what belongs beside a cell: the arms that meet its conditions, or the teachers of its column."""
    if "ours" not in column or not ("match" in row or row.get("teacher")):
        return []
    in_column = [pair for pair in arms if _meets(pair[1], column["match"])]
    if row.get("teacher"):
        return _teachers(in_column, found, column["ours"], table)
    return [
        _measured(arm, experiment, found["headline"], column["ours"], table)
        for arm, experiment in in_column
        if _meets(experiment, row["match"])
    ]


def _measured(
    arm: Mapping[str, Any], experiment: Mapping[str, Any], headline: str, metric: str, table: Mapping[str, Any]
) -> dict[str, Any]:
    data = _other_data(experiment, table)
    return {
        "arm": arm["arm"],
        **arm["metrics"].get(metric, statistic([])),
        "interval": arm["statistics"]["interval"] if headline == metric else None,
        "beyond": headline == metric and arm["statistics"]["beyond"],
        "best_test": arm["best_test"],
        "comparable": not data,
        "mind": [*data, *_other_recipe(arm, experiment, table), *_lost(arm)],
    }


def _teachers(
    arms: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], found: Summary, metric: str, table: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the teachers of a column's arms; each was trained once."""
    names = {experiment["teacher"]["name"] for _, experiment in arms}
    data = next((_other_data(experiment, table) for _, experiment in arms), [])
    return [
        {
            "arm": f"teacher {teacher['name']}",
            **statistic([teacher["metrics"].get(metric)]),
            "interval": None,
            "best_test": statistic([]),
            "comparable": not data,
            "mind": data,
        }
        for teacher in found["teachers"]
        if teacher["name"] in names
    ]


def _other_data(experiment: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    name = (experiment.get("task") or {}).get("name")
    return [] if name == table["task"] else [f"other data ({name}): not comparable"]


def _other_recipe(arm: Mapping[str, Any], experiment: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    """Say where an arm was trained less, or on less, than the paper's."""
    task = experiment.get("task") or {}
    said = []
    if arm["epochs_planned"] != table["epochs"]:
        said.append(f"{arm['epochs_planned']} epochs instead of {table['epochs']}")
    if task.get("validation"):
        said.append(f"{task['validation']} training images held out for validation")
    if task.get("fraction") not in {None, 1.0}:
        said.append(f"trained on {100 * task['fraction']:g} % of the images")
    return said


def _lost(arm: Mapping[str, Any]) -> list[str]:
    ends = [(arm["failed"], "failed"), (arm["stopped"], "stopped early")]
    return [f"{count} {'seed' if count == 1 else 'seeds'} {how}" for count, how in ends if count]


def _meets(experiment: Mapping[str, Any], conditions: Mapping[str, Any]) -> bool:
    return all(_holds(experiment, path, expected) for path, expected in conditions.items())


def _holds(experiment: Mapping[str, Any], path: str, expected: Any) -> bool:
    """Whether a value is as expected; an option that did not exist yet when a row was written is as it always was."""
    given: Any = experiment
    for part in path.split("."):
        if not isinstance(given, Mapping):
            return False
        given = given.get(part, _GONE)
        if given is _GONE:
            return True
    return bool(given in expected if isinstance(expected, list) else given == expected)


# Forms


def notes(table: Mapping[str, Any]) -> list[str]:
    """Return the lines under the table: its marks, then where the paper is at odds with itself."""
    return [
        f"‡ {table['mark']}; {table['metric']}. The authors' code reports the best test epoch.",
        f"† {BEST_TEST_MARK}.",
        *filter(None, [table["alone"]]),
        *(f"Paper: {note}" for note in table["footnotes"]),
    ]


def lines(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the table's lines under `TITLES`, one for each arm beside a cell, or one for a cell that has none."""
    return [_line(cell, ours) for cell in table["cells"] for ours in cell["ours"] or [None]]


def _line(cell: Mapping[str, Any], ours: Mapping[str, Any] | None) -> list[str]:
    printed = [cell["column"], cell["row"], f"{cell['paper']:.2f}"]
    if ours is None:
        return [*printed, MISSING, MISSING, MISSING, MISSING, ""]
    return [*printed, spread(ours), interval(ours), spread(ours["best_test"]), ours["arm"], "; ".join(ours["mind"])]


def markdown(table: Mapping[str, Any]) -> str:
    """Return the table as Markdown."""
    listed = "\n".join(f"- {note}" for note in notes(table))
    return f"# {table['title']}\n\n" + "\n".join(markdown_table(TITLES, lines(table))) + f"\n\n{listed}\n"


def rich_table(table: Mapping[str, Any]) -> Table:
    """Return the table for a terminal."""
    return drawn(f"{table['title']}: {table['metric']}", TITLES, lines(table))


def latex(table: Mapping[str, Any]) -> str:
    """Return the table as LaTeX."""
    return r"% Needs \usepackage{booktabs}." + "\n\n" + latex_table(TITLES, lines(table), notes(table)) + "\n"


def as_csv(table: Mapping[str, Any]) -> str:
    """Return the table as CSV, a line as in `lines`, nothing rounded."""
    return csv_text([_record(table, cell, ours) for cell in table["cells"] for ours in cell["ours"] or [None]])


def _record(table: Mapping[str, Any], cell: Mapping[str, Any], ours: Mapping[str, Any] | None) -> dict[str, Any]:
    printed = {"table": table["table"], "networks": cell["column"], "cell": cell["row"], "paper": cell["paper"]}
    found = ours or {"interval": None, "best_test": {}, "mind": []}
    return {
        **printed,
        "paper_mark": table["mark"],
        **{name: found.get(name) for name in ("arm", "n", "mean", "sd", "comparable")},
        **{f"interval_{end}": (found["interval"] or {}).get(end) for end in ("low", "high")},
        **{f"best_test_{name}": found["best_test"].get(name) for name in ("n", "mean", "sd")},
        "mind": "; ".join(found["mind"]),
    }
