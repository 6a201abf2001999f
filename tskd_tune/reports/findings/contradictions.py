"""Finds what contradicts the rows of a run: other results of the same training, other histories, and other data.

A run writes one result per training, and a row has the numbers of the last line of its history. What differs was
trained again, or was written by hand. Seeds that saw other data than the other seeds of their arm are named, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tskd_tune.metrics import Metric
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import ROWS, RunFolder
from tskd_tune.records.storing.lines import HistoryLine, parsed_line
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.frozen import Frozen, exploratory_because
from tskd_tune.reports.findings.grouping import few
from tskd_tune.reports.findings.several_teachers import run_text
from tskd_tune.reports.judge.words import count, runs_of


def doubted(found: Frozen, run: RunFolder, rows: Sequence[Row], headline: Headline) -> Frozen:
    """Add what contradicts the rows to what is said of a protocol; verdicts on values that were edited are exploratory.

    Args:
        found: what is said of the protocol.
        run: the run.
        rows: its rows, one per training.
        headline: the metric by which arms are compared.
    """
    unlike = unlike_histories(run, rows, headline.name, headline.metric)
    said = [*unlike, *replaced(run, headline.name, headline.metric), *other_data(rows)]
    why = exploratory_because("what was measured is not known for certain") if unlike else ""
    return replace(found, said=(*found.said, *said), exploratory=found.exploratory or why)


def replaced(run: RunFolder, name: str, metric: Metric) -> list[str]:
    """Name the trainings of which ``rows.jsonl`` has an earlier result with another value.

    Args:
        run: the run.
        name: the name of the metric in rows.
        metric: the metric.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged row is said elsewhere
        rows = [row for row in run.rows(every=True) if row.ended and row.status in ("done", "failed")]
    results: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        results.setdefault((row.identity or row.run, row.arm, row.seed), []).append(row)
    found = [
        f"{training_of(of[-1])}: {', then '.join(_result(row, name, metric) for row in of)}"
        for of in results.values()
        if len({(row.status, row.metrics.get(name)) for row in of}) > 1
    ]
    if not found:
        return []
    return [
        f"{run.store.place(ROWS)} has more than one result of {count(len(found), 'training')}, and the last one counts:"
        f" {few(found)}."
    ]


def unlike_histories(run: RunFolder, rows: Sequence[Row], name: str, metric: Metric) -> list[str]:
    """Name the trainings whose row has another value than the last line of their history.

    Nothing is said of a history that is not there, or does not have the metric.

    Args:
        run: the run.
        rows: its rows.
        name: the name of the metric in rows.
        metric: the metric.
    """
    found = []
    for row in rows:
        value = row.metrics.get(name)
        if row.status != "done" or value is None:
            continue
        line = _last_line(run, row)
        measured = None if line is None else line.number(name)
        if measured is not None and abs(measured - value) > 1e-9 * max(abs(measured), abs(value)):
            found.append(f"{training_of(row)} ({metric.text(value)}, and {metric.text(measured)} in the history)")
    if not found:
        return []
    one = len(found) == 1
    told = f"The {'value' if one else 'values'} of {count(len(found), 'training')} in {run.store.place(ROWS)}"
    last = f"{'differs' if one else 'differ'} from the last epoch of {'its history' if one else 'their histories'}"
    return [f"{told} {last}: {few(found)}."]


def other_data(rows: Sequence[Row]) -> list[str]:
    """Say which seeds of an arm were trained on other data than the first seeds: other files, or another split."""
    arms: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        if row.data is not None and row.data.fingerprint:
            arms.setdefault(row.arm, {}).setdefault(row.data.fingerprint, []).append(row.seed)
    said: dict[str, list[str]] = {}
    for arm, data in arms.items():
        if len(data) > 1:
            groups = "; ".join(f"{digest[:8]} in {_seeds(of)}" for digest, of in data.items())
            said.setdefault(groups, []).append(f"'{arm}'")
    return [
        f"The files or the split of the data changed between the seeds of {few(names)} (digest {groups}): these seeds"
        " are no samples of one experiment."
        for groups, names in said.items()
    ]


def training_of(row: Row) -> str:
    """Name the training of a row: ``seed 3 of 'tskd'``."""
    return f"seed {run_text(row)} of '{row.arm}'"


def _seeds(seeds: Iterable[int]) -> str:
    known = sorted(set(seeds))
    return f"{'seed' if len(known) == 1 else 'seeds'} {runs_of(known)}"


def _result(row: Row, name: str, metric: Metric) -> str:
    value = row.metrics.get(name)
    return row.status if row.status != "done" or value is None else metric.text(value)


def _last_line(run: RunFolder, row: Row) -> HistoryLine | None:
    """Return the line of the last epoch of a training, of several the last one; None where there is none."""
    name = run.history_path(row.run, row.seed).relative_to(run.path).as_posix()
    return next((line for line in _backwards(run, name) if (line.seed, line.epoch) == (row.seed, row.epochs - 1)), None)


def _backwards(run: RunFolder, name: str) -> Iterator[HistoryLine]:
    for raw in reversed([*run.store.lines(name)]):
        record = parsed_line(raw.decode(errors="replace"))
        try:
            yield HistoryLine.read(record or {})
        except ValueError:  # a damaged line, which is said elsewhere
            continue
