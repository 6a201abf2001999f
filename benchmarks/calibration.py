"""Trains one arm under two names with different seeds, and counts how often a report finds a difference (A/A test).

Only the seeds differ, so each table with a *resolved* difference is an error, and at most 5 % of the tables may have
one. The same tables are tested again with a known difference added to one arm, to show that the report detects real
differences.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import scipy.stats
from rich.console import Console
from rich.progress import track
from rich.table import Table as Shown

from benchmarks.arm import Arm
from tskd_tune import documents
from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.metrics import metric_of
from tskd_tune.records.entries.row import Row
from tskd_tune.records.sessions.session import Session, Trial
from tskd_tune.reports.findings.comparison import Headline, compare
from tskd_tune.reports.findings.declared import Compare, Declared
from tskd_tune.reports.findings.endings import Counts
from tskd_tune.reports.findings.pairs import Trained
from tskd_tune.reports.findings.records import Setting
from tskd_tune.reports.judge.contrasts import MARGIN
from tskd_tune.reports.judge.records import LEAST_SEEDS
from tskd_tune.training.lockstep import advance
from tskd_tune.training.teachers import TeacherCache, TeacherFile

A, AGAIN = "a", "a again"
METRIC = "test_top1"
PLANTED_SDS = 4.0

Deal = Sequence[Mapping[str, Sequence[int]]]


# Small enough to train quickly, and hard enough that seeds differ by several points: 60 images, 12 steps.
PLAIN: dict[str, Any] = {
    "task": {"name": "digits", "train": 60, "batch_size": 30},
    "student": {"name": "resnet8"},
    "review": None,
    "training": {"epochs": 6, "lr": 0.05, "milestones": [5], "device": "cpu", "threads": 1},
}
# The student saves snapshots in epochs 0, 1, 3 and 4, and reviews in epochs 2 and 5.
REVIEWING: dict[str, Any] = {
    "teacher": {"name": "resnet14", "training": {"epochs": 30, "lr": 0.05}},
    "review": {"k": 2, "delta": 1, "lambda": {"auto": 0.1}},
}


def document(arm: Arm) -> dict[str, Any]:
    """Return the experiment of an arm as plain data, without its seed."""
    return documents.merge(PLAIN, REVIEWING if arm is Arm.TSKD else {})


def deal(tables: int, seeds: int) -> Deal:
    """Return for each table the seeds of both names; no seed is used twice."""
    fresh = count(1)
    return [{name: list(islice(fresh, seeds)) for name in (A, AGAIN)} for _ in range(tables)]


def command(tables: int, seeds: int | None, arm: Arm, margin: float | None, output: Path | None) -> None:
    """Carry out the command: train, show the figures, and write them."""
    seeds, margin = seeds or LEAST_SEEDS, margin or MARGIN
    if seeds < LEAST_SEEDS:
        raise SystemExit(f"--seeds: a comparison needs at least {LEAST_SEEDS} under each name, got {seeds}")
    experiment, started = document(arm), time.perf_counter()
    trained = trainings(experiment, deal(tables, seeds))
    rows = list(track(trained, "training", total=2 * tables * seeds, console=Console(stderr=True)))
    dealt = gathered(rows)
    found = figures(dealt, margin, time.perf_counter() - started)
    Console().print(table(arm, found))
    if output is not None:
        judged = [vars(judge(rows_of_one, margin)) for rows_of_one in dealt]
        plain = {"arm": arm, "experiment": experiment, **found.plain(), "judged": judged}
        output.write_text(json.dumps(plain, indent=1) + "\n")


# Training


def trainings(experiment: Mapping[str, Any], dealt: Deal) -> Iterator[Row]:
    """Train every seed of every table, and the teacher once if there is one; ``run`` is the number of the table.

    Raises:
        RunError: a training failed, so a table would lack a seed.
    """
    teacher = obtain(Experiment.read({**experiment}), TeacherCache(), lambda record: None)
    for number, table in enumerate(dealt):
        for name, seeds in table.items():
            for seed in seeds:
                yield train({**experiment, "seed": seed}, teacher, Trial(str(number), name))


def train(experiment: Mapping[str, Any], teacher: TeacherFile | None, trial: Trial) -> Row:
    """Train one seed in the same way as a run, and return its row.

    Raises:
        RunError: the training failed.
    """
    session = Session(Experiment.read({**experiment}), teacher, trial, None)
    session.begin()
    while not session.finished:
        advance([session.trainer])
    row = session.row()
    if row.status != "done":
        raise RunError(f"calibration: seed {row.seed} of '{row.arm}' {row.status}: {row.reason}")
    return row


# Judging


@dataclass(frozen=True)
class Judged:
    """One table: name -> seed -> value in percent, and the report's verdict on this table."""

    values: Mapping[str, Mapping[int, float]]
    difference: float
    p: float | None
    tost_p: float | None
    verdict: str | None
    sentence: str
    notes: Sequence[str]


def gathered(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each table."""
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(row.run, []).append(row)
    return list(tables.values())


def judge(rows: Sequence[Row], margin: float) -> Judged:
    """Return the verdict on one table that a report gives for a sweep that declares this pair."""
    arms = [_arm(name, [row for row in rows if row.arm == name]) for name in (A, AGAIN)]
    declared = Declared(compare=Compare(pairs=[[AGAIN, A]], margin=margin))
    headline = Headline(METRIC, metric_of(METRIC, rows[0].measures))
    compared = compare(arms, declared, headline, Counts.over(rows, len(rows), 0))
    assert compared.verdicts is not None, compared.reason
    (found,) = compared.verdicts.family.findings
    assert found.contrast.difference is not None
    return Judged(
        {arm.label: arm.values(METRIC) for arm in arms},
        found.contrast.difference,
        found.evidence.p,
        found.evidence.tost_p,
        found.verdict,
        found.sentence,
        compared.verdicts.notes,
    )


def _arm(name: str, rows: Sequence[Row]) -> Trained:
    experiment = rows[0].experiment
    setting = Setting(experiment["task"], experiment["student"])
    return Trained(name, setting, experiment["review"] is not None, rows)


def planted(rows: Sequence[Row], difference: float) -> list[Row]:
    """Return the rows with a difference, in points, added to every value of the second name."""
    return [_raised(row, difference) if row.arm == AGAIN else row for row in rows]


def _raised(row: Row, difference: float) -> Row:
    value = row.metrics[METRIC]
    assert value is not None
    return row.model_copy(update={"metrics": {**row.metrics, METRIC: value + difference}})


# Counting


@dataclass(frozen=True)
class Share:
    """A number of a total number, with Clopper and Pearson's exact 95 % interval of the share."""

    found: int
    of: int
    low: float
    high: float

    def __str__(self) -> str:
        """Return the share in words, in percent."""
        interval = f"95 % interval {100 * self.low:.1f} to {100 * self.high:.1f} %"
        return f"{100 * self.found / self.of:.1f} % ({self.found} of {self.of}; {interval})"


def share(found: int, of: int) -> Share:
    """Return a share with its interval."""
    ends = scipy.stats.binomtest(found, of).proportion_ci(0.95, method="exact")
    return Share(found, of, float(ends.low), float(ends.high))


@dataclass(frozen=True)
class Figures:
    """The results of all tables: mean and sd over all seeds in percent, and the shares of the verdicts.

    ``with_difference`` is the share of resolved tables after ``PLANTED_SDS`` sd are added to one arm.
    """

    tables: int
    seeds: int
    margin: float
    mean: float
    sd: float
    resolved: Share
    equivalent: Share
    with_difference: Share
    seconds: float

    def plain(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)


def figures(tables: Sequence[Sequence[Row]], margin: float, seconds: float) -> Figures:
    """Test all tables, unchanged and with an added difference, and count the verdicts.

    Args:
        tables: the rows of each table; a table has two names with the same number of seeds.
        margin: differences within plus or minus this many points count as equivalent.
        seconds: the seconds of all trainings, including the teacher's training.
    """
    values = [value for rows in tables for row in rows if (value := row.metrics[METRIC]) is not None]
    sd = statistics.stdev(values)
    found = [judge(rows, margin).verdict for rows in tables]
    raised = [judge(planted(rows, PLANTED_SDS * sd), margin).verdict for rows in tables]
    return Figures(
        tables=len(tables),
        seeds=len(tables[0]) // 2,
        margin=margin,
        mean=statistics.fmean(values),
        sd=sd,
        resolved=share(found.count("resolved"), len(tables)),
        equivalent=share(found.count("equivalent"), len(tables)),
        with_difference=share(raised.count("resolved"), len(tables)),
        seconds=seconds,
    )


def table(arm: Arm, found: Figures) -> Shown:
    """Return the figures as a table for a terminal."""
    trained = 2 * found.tables * found.seeds
    shown = Shown("what", "found", title=f"A/A: one arm ({arm}) under two names, disjoint seeds")
    shown.add_row("tables", f"{found.tables}")
    shown.add_row("seeds an arm", f"{found.seeds}")
    shown.add_row("test top-1 over all seeds", f"mean {found.mean:.1f} %, sd {found.sd:.2f} points")
    shown.add_row("resolved, which is wrong", str(found.resolved))
    shown.add_row(f"equivalent within ±{found.margin:g} points", str(found.equivalent))
    shown.add_row(f"resolved, {PLANTED_SDS:g} sd planted", str(found.with_difference))
    shown.add_row("seconds", f"{found.seconds:.0f} ({found.seconds / trained:.2f} a training)")
    return shown
