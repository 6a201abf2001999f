"""Finds what contradicts the rows of a run: other results of the same training, other histories, and other data.

A run writes one result per training, and a row has the numbers of the last line of its history. What differs was
trained again, or was written by hand. Seeds that saw other data than the other seeds of their arm are named, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import Identity, identity_of
from tskd_tune.records.runs.run_folder import ROWS, RunFolder
from tskd_tune.records.storing.lines import HistoryLine, parsed_line
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.frozen import Frozen, exploratory_because
from tskd_tune.reports.findings.grouping import few
from tskd_tune.reports.findings.several_teachers import run_text
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.words import count

Results = dict[str, list[str]]
"""A training in words -> its results in words, the oldest first."""


def doubted(found: Frozen, run: RunFolder, rows: Sequence[Row], headline: Headline) -> Frozen:
    """Add what contradicts the rows to what is said of a protocol; verdicts on values that were edited are exploratory.

    Args:
        found: what is said of the protocol.
        run: the run.
        rows: its rows, one per training.
        headline: the metric by which arms are compared.
    """
    unlike, again = _from_histories(run, rows, headline)
    several = _from_rows(run, headline) | again
    said = [*_unlike(unlike, run), *_several(several), *other_data(rows), *other_teachers(rows, headline)]
    why = exploratory_because("what was measured is not known for certain") if unlike else ""
    return replace(found, said=(*found.said, *said), exploratory=found.exploratory or why)


def _from_rows(run: RunFolder, headline: Headline) -> Results:
    """Return the trainings of which ``rows.jsonl`` has several results; a training that broke has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged row is said elsewhere
        rows = [row for row in run.rows(every=True) if row.ended and row.status in ("done", "failed")]
    written: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        written.setdefault((row.identity or row.run, row.arm, row.seed), []).append(row)
    results = {training_of(of[-1]): [_result(row, headline) for row in of] for of in written.values()}
    return {training: list(of) for training, told in results.items() if len(of := dict.fromkeys(told)) > 1}


def _from_histories(run: RunFolder, rows: Sequence[Row], headline: Headline) -> tuple[list[str], Results]:
    """Return the trainings whose row has another value than the last line of their history, and those trained again.

    Nothing is said of a history that is not there, or does not have the metric.
    """
    unlike: list[str] = []
    again: Results = {}
    for row in rows:
        value = row.metrics.get(headline.name)
        if row.status != "done" or value is None:
            continue
        measured = _measured(run, row, headline.name)
        if measured and not _are_close(measured[-1], value):
            told = f"({_text(value, headline)}, and {_text(measured[-1], headline)} in the history)"
            unlike.append(f"{training_of(row)} {told}")
        if any(not _are_close(one, measured[-1]) for one in measured):
            again[training_of(row)] = list(dict.fromkeys(_text(one, headline) for one in measured))
    return unlike, again


def _are_close(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other))


def _text(value: float, headline: Headline) -> str:
    return headline.metric.text(value)


def _unlike(found: Sequence[str], run: RunFolder) -> list[str]:
    if not found:
        return []
    one = len(found) == 1
    told = f"The {'value' if one else 'values'} of {count(len(found), 'training')} in {run.store.place(ROWS)}"
    last = f"{'differs' if one else 'differ'} from the last epoch of {'its history' if one else 'their histories'}"
    return [f"{told} {last}: {few(found)}."]


def _several(found: Results) -> list[str]:
    if not found:
        return []
    told = few([f"{training}: {', then '.join(results)}" for training, results in found.items()])
    have = "has" if len(found) == 1 else "have"
    return [f"{count(len(found), 'training')} {have} more than one result, and the last one counts: {told}."]


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
        f"The digest of the data and their split changed between the seeds of {few(names)} ({groups}): if the data were"
        " changed, these seeds are no samples of one experiment."
        for groups, names in said.items()
    ]


def other_teachers(rows: Sequence[Row], headline: Headline) -> list[str]:
    """Say that one teacher was measured with different values: its weights were changed, or what it was measured on.

    Another machine rounds differently, so differences below a thousandth are not named.
    """
    known: dict[Identity, dict[float, list[int]]] = {}
    for row in rows:
        value = row.teacher.metrics.get(headline.name) if row.teacher is not None and row.teacher.key else None
        if row.teacher is not None and value is not None:
            values = known.setdefault(identity_of(row.teacher), {})
            like = next((one for one in values if abs(one - value) <= 1e-3 * max(abs(one), abs(value))), value)
            values.setdefault(like, []).append(row.seed)
    return [
        f"The teacher {name} (key {(key or '')[:8]}) was measured with different values:"
        f" {'; '.join(f'{_text(value, headline)} in {_seeds(seeds)}' for value, seeds in values.items())}. Its weights,"
        " or the images, may have been changed."
        for (name, _, key), values in known.items()
        if len(values) > 1
    ]


def training_of(row: Row) -> str:
    """Name the training of a row: ``seed 3 of 'tskd'``."""
    return f"seed {run_text(row)} of '{row.arm}'"


def _seeds(seeds: Iterable[int]) -> str:
    known = sorted(set(seeds))
    return f"{'seed' if len(known) == 1 else 'seeds'} {runs_of(known)}"


def _result(row: Row, headline: Headline) -> str:
    value = row.metrics.get(headline.name)
    return row.status if row.status != "done" or value is None else _text(value, headline)


def _measured(run: RunFolder, row: Row, name: str) -> list[float]:
    """Return the values of the last epoch of a training in its history, the oldest first."""
    found: list[float] = []
    last = f'"epoch": {row.epochs - 1},'.encode()
    for raw in run.store.lines(run.history_path(row.run, row.seed).relative_to(run.path).as_posix()):
        if last not in raw:  # most lines need not be parsed
            continue
        record = parsed_line(raw.decode(errors="replace"))
        try:
            line = HistoryLine.read(record or {})
        except ValueError:  # a damaged line, which is said elsewhere
            continue
        value = line.number(name)
        if (line.seed, line.epoch) == (row.seed, row.epochs - 1) and value is not None:
            found.append(value)
    return found
