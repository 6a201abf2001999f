"""The tables of a run as CSV. Numbers are not rounded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from tskd_tune.metrics import Part, measured
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import identity_of
from tskd_tune.reports.findings.endings import Unfinished
from tskd_tune.reports.findings.records import ArmFindings, Statistic
from tskd_tune.reports.findings.search_curve import SearchCurve
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.crossed import Crossed
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.robust import Estimate
from tskd_tune.reports.judge.statistics import Arm
from tskd_tune.reports.judge.values import Interval
from tskd_tune.reports.judge.variance_components import Teachers

Cells: TypeAlias = dict[str, Json]


def as_csv(found: Findings, what: str) -> str:
    """Return ``arms``, ``verdicts``, ``runs`` or ``search`` as CSV, with a title line.

    There is one line per arm, verdict or run; of a search's curve, one line per number of trials.
    """
    if what == "arms":
        return csv_text([_arm(arm, found.headline) for arm in found.arms])
    if what == "verdicts":
        return csv_text([_finding(finding) for finding in (found.family.family.findings if found.family else ())])
    if what == "search":
        return csv_text([] if found.curve is None else curve_cells(found.curve))
    return csv_text([*map(_run, found.rows), *map(_unfinished, found.unfinished)])


def curve_cells(curve: SearchCurve) -> list[Cells]:
    """Return one record per number of trials of a curve: the best of n trials with its interval."""
    facts: Cells = {
        "metric": curve.metric,
        "mode": curve.mode,
        "kind": curve.kind,
        "searches": curve.searches,
        "trials": curve.trials,
        "without_value": curve.without_value,
    }
    return [
        {"n": point.n, "best": point.value, "low": point.low, "high": point.high, **facts} for point in curve.points
    ]


def csv_text(records: Sequence[Mapping[str, Json]]) -> str:
    """Return records as CSV, with a column for each key of any record; a missing value is empty."""
    titles = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, titles, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue() if titles else ""


def _arm(arm: ArmFindings, headline: str) -> Cells:
    found = arm.statistics
    return {
        "arm": arm.arm,
        "trials": " ".join(arm.runs),
        **{f"point.{hole}": value for hole, value in arm.point.items()},
        "headline": headline,
        "of": arm.headline.of,
        "seeds": " ".join(map(str, found.seeds)),
        **_numbers("", found),
        **_ends("interval", found.interval),
        "interval_beyond_scale": arm.beyond,
        **_ends("bootstrap", found.bootstrap),
        **_estimate("interquartile_mean", arm.interquartile_mean),
        "collapsed": " ".join(map(str, arm.collapsed)),
        "note": found.note,
        **{key: value for name, of in arm.metrics.items() for key, value in _numbers(f"{name}_", of).items()},
        **_numbers("best_validation_", arm.best_validation),
        **_numbers("validation_selected_", arm.validation_selected),
        **_numbers("best_test_", arm.best_test),
        "failed": arm.failed,
        "broke": arm.broke,
        "stopped": arm.stopped,
        "reviews": arm.reviews,
        **_numbers("lambda_", arm.lambda_),
        "cost_seconds": arm.cost_seconds,
        "cost_ratio": arm.cost_ratio,
        "peak_memory_bytes": arm.peak_memory_bytes,
        "preset": arm.preset,
        **_teachers(arm.rows),
    }


def _teachers(rows: Sequence[Row]) -> Cells:
    """Return the teachers of rows; a key tells teachers of one network apart."""
    found = list(dict.fromkeys(identity_of(row.teacher) for row in rows if row.teacher is not None))
    names = ("teacher", "teacher_source", "teacher_key")
    return {name: " ".join(one[place] or "" for one in found) for place, name in enumerate(names)}


def _numbers(prefix: str, found: Statistic | Arm) -> Cells:
    return {f"{prefix}n": found.n, f"{prefix}mean": found.mean, f"{prefix}sd": found.sd}


def _ends(name: str, interval: Interval | None) -> Cells:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_level": interval.level if interval else None,
    }


def _range(name: str, found: tuple[int | None, int | None] | None) -> Cells:
    low, high = found or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _estimate(name: str, found: Estimate | None) -> Cells:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high} if found else {name: None}


def _finding(finding: Finding) -> Cells:
    item, evidence = finding.contrast, finding.evidence
    return {
        "arm": item.arm,
        "baseline": item.baseline,
        "verdict": finding.verdict,
        **_difference(item),
        **_ends("interval", evidence.interval),
        "adjusted_p": evidence.p,
        "holm_p": finding.holm_p,
        "sign_flip_p": item.sign_flip_p,
        "sign_flip_smallest": item.sign_flip_smallest,
        "sign_flip_method": item.sign_flip_method,
        "tost_p": item.tost_p,
        "margin_p": finding.margin_p,
        "margin": item.margin,
        **_estimate("probability_of_improvement", finding.improvement),
        "withheld": finding.withheld,
        "seeds": " ".join(map(str, item.seeds)),
        "family_size": finding.family_size,
        **_range("seeds_to_resolve", finding.needed.resolve if finding.needed else None),
        **_range("seeds_to_equivalence", finding.needed.equivalence if finding.needed else None),
        "exploratory": finding.exploratory,
        "sentence": finding.sentence,
        **_crossed(finding.crossed),
    }


def _crossed(item: Crossed | None) -> Cells:
    """Return the difference over seeds and images; no column where no comparison has it."""
    if item is None:
        return {}
    every = {"over_seeds": item.over_seeds, "over_images": item.over_images, "over_both": item.over_both}
    intervals = {name: one.interval if one else None for name, one in every.items()}
    return {
        "images": item.images,
        **{key: end for name, one in intervals.items() for key, end in _ends(name, one).items()},
    }


def _difference(item: Contrast) -> Cells:
    return {
        "difference": item.difference,
        "n": item.n,
        "paired": item.paired,
        "sd": item.sd,
        "se": item.se,
        "df": item.df,
        "d_z": item.d_z,
        "d": item.d,
        "rho": item.rho,
        "t_p": item.t_p,
        "p": item.p,
        **_several(item.teachers),
    }


def _several(found: Teachers | None) -> Cells:
    """Return the analysis over several teachers; empty with one teacher."""
    if found is None:
        return {}
    return {
        "teachers": " ".join(map(str, found.seeds)),
        "teacher_share": found.share,
        "teacher_share_low": found.share_low,
        "teacher_share_high": found.share_high,
    }


def _unfinished(training: Unfinished) -> Cells:
    return {
        "trial": training.run,
        "arm": training.arm,
        "seed": training.seed,
        "epochs": training.epochs,
        "epochs_planned": training.epochs_planned,
        "status": "unfinished",
    }


def _best(row: Row, part: Part) -> Cells:
    """Return the best epoch by the headline on the validation or test set, and the values of this epoch."""
    best, prefix = row.best_by(part), f"best_{part}_"
    parts: list[Part] = ["validation", "test"] if part == "validation" else ["test"]
    names = [measured(each, row.headline) for each in parts] if row.headline else []
    values = {measured(part, best.metric): best.value, **best.also} if best else {}
    return {
        f"{prefix}epoch": best.epoch if best else None,
        **{f"{prefix}{name}": values.get(name) for name in dict.fromkeys([*names, *values])},
    }


def _run(row: Row) -> Cells:
    return {
        "trial": row.run,
        "arm": row.arm,
        "seed": row.seed,
        "status": row.status,
        "reason": row.reason,
        "broke": row.broke,
        "error": row.error,
        "epochs": row.epochs,
        "epochs_planned": row.epochs_planned,
        **{f"point.{hole}": value for hole, value in row.point.items()},
        **row.metrics,
        **_best(row, "validation"),
        **_best(row, "test"),
        "lambda": row.lambda_,
        **row.cost.plain(),
        "preset": row.preset,
        **_teachers([row]),
        "commit": row.commit,
        "started": row.started,
        "finished": row.finished,
    }
