"""The table of arms: its columns and cells, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table

from tskd_tune.records.entries.teacher_names import told_apart
from tskd_tune.reports.findings.records import ArmFindings, Statistic
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.findings.teachers import share_names, taught_by
from tskd_tune.reports.forms.grids import Align, drawn
from tskd_tune.reports.forms.report_lines import has_best_test, unlike
from tskd_tune.reports.forms.short import MISSING, duration
from tskd_tune.reports.forms.words import estimate, interval, spread, value_text, weight
from tskd_tune.words import count


@dataclass(frozen=True)
class Column:
    """A column of the table of arms: its title, and the text that it shows for an arm; numbers are right-aligned."""

    title: str
    show: Callable[[ArmFindings], str]
    align: Align = "right"


def columns(found: Findings) -> list[Column]:
    """Return the columns of the table of arms, without empty columns; the headline is always there."""
    digits, others = found.metric.digits, [found.on("test"), found.on("validation")]
    middle = [name for name in others if name != found.headline and any(name in arm.metrics for arm in found.arms)]
    sampled = found.search is not None and "lambda" in _short_holes(found)
    ended = Column("ended early", lambda arm: ended_early(arm, digits), "left")
    mark = " ‡" if unlike(found) else ""
    interval_column = Column("95 % interval", lambda arm: interval(arm, digits))
    return [
        *_naming_columns(found),
        *_teacher_columns(found),
        _metric_column(found, found.headline),
        *_robust_columns(found),
        *([interval_column] if any(arm.statistics.interval for arm in found.arms) else []),
        *(_metric_column(found, name) for name in middle),
        *_chosen_columns(found),
        Column("reviews", lambda arm: str(arm.reviews)),
        *([] if sampled else [Column("λ", lambda arm: weight(arm.lambda_))]),
        Column(f"time per run{mark}", lambda arm: duration(arm.cost_seconds)),
        Column(f"time ratio{mark}", lambda arm: value_text(arm.cost_ratio, ".2f")),
        *([ended] if any(map(ended_early, found.arms)) else []),
    ]


def _robust_columns(found: Findings) -> list[Column]:
    """Return the column of the interquartile mean where a run collapsed, which moves the mean."""
    if not any(arm.collapsed for arm in found.arms):
        return []
    return [Column("interquartile mean", lambda arm: estimate(arm.interquartile_mean, found.metric.digits))]


def _teacher_columns(found: Findings) -> list[Column]:
    """Return a column with the teachers where two teachers have the name of one network, which hides the difference."""
    if not share_names(found.teachers):
        return []
    names = told_apart(found.teachers)
    return [Column("teacher", lambda arm: taught_by(arm.rows, names) or MISSING, "left")]


def _metric_column(found: Findings, name: str) -> Column:
    digits = found.metric.digits
    return Column(f"{found.heading(name)}, last epoch", lambda arm: spread(arm.metric(name), digits))


def _chosen_columns(found: Findings) -> list[Column]:
    """Return the columns of other epochs than the last: the best validation epoch and the best test epoch."""
    title = found.heading(found.on("test"))
    chosen = []
    if _is_whole([(arm, arm.validation_selected) for arm in found.arms]):
        shown = _of(lambda arm: arm.validation_selected, found)
        chosen.append(Column(f"{title}, best validation epoch", shown))
    if has_best_test(found):
        chosen.append(Column(f"{title}, best test epoch †", _of(lambda arm: arm.best_test, found)))
    return chosen


def _of(statistic: Callable[[ArmFindings], Statistic], found: Findings) -> Callable[[ArmFindings], str]:
    digits = found.metric.digits
    return lambda arm: spread(statistic(arm), digits)


def _is_whole(found: Sequence[tuple[ArmFindings, Statistic]]) -> bool:
    """Tell whether any arm has a value, and each such arm has a value for every finished seed.

    Where the test set is evaluated once, only a few seeds have a value: those whose last epoch happened to be the best.
    """
    known = [(arm, statistic) for arm, statistic in found if statistic.n]
    return bool(known) and all(statistic.n == arm.headline.n for arm, statistic in known)


def _naming_columns(found: Findings) -> list[Column]:
    if found.search is None:
        return [Column("arm", lambda arm: arm.arm, "left")]
    return [Column("trial", lambda arm: arm.run, "left"), *map(_hole_column, _holes(found), _short_holes(found))]


def _holes(found: Findings) -> list[str]:
    return sorted({hole for arm in found.arms for hole in arm.point})


def _short_holes(found: Findings) -> list[str]:
    """Return the last part of each search parameter's path; the whole path where two last parts are equal."""
    last = [hole.rpartition(".")[2] for hole in _holes(found)]
    return [hole if last.count(short) > 1 else short for hole, short in zip(_holes(found), last, strict=True)]


def _hole_column(hole: str, title: str) -> Column:
    return Column(title, lambda arm: value_text(arm.point.get(hole)))


def ended_early(arm: ArmFindings, digits: int = 2) -> str:
    """Return how many seeds of an arm failed or were stopped, and after how many epochs; empty if none."""
    told = [f"{seeds} {how}" for seeds, how in ((arm.failed - arm.broke, "failed"), (arm.broke, "broke")) if seeds]
    if arm.stopped_at:
        at, value = arm.stopped_at.epochs, arm.stopped_at.mean
        where = "" if value is None else f" at {value:.{digits}f}"
        told.append(f"{arm.stopped} stopped after {count(at, 'epoch')}{where}")
    if arm.collapsed:
        told.append(f"{len(arm.collapsed)} collapsed")
    return ", ".join(told)


def cells(found: Findings) -> tuple[list[Column], list[list[str]]]:
    """Return the columns of the table of arms and its rows of text."""
    shown = columns(found)
    return shown, [[column.show(arm) for column in shown] for arm in found.arms]


def rich_table(found: Findings) -> Table:
    """Return the table of arms for a terminal."""
    shown, rows = cells(found)
    return drawn(f"{found.run}: {found.runs.sentence}", [(column.title, column.align) for column in shown], rows)
