"""The tables of a run for other programs: LaTeX to paste into a paper, CSV with every digit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from tskd_tune.metrics import Part, measured
from tskd_tune.records.row import Row
from tskd_tune.reports.forms.tables import (
    Align,
    Summary,
    cells,
    head_lines,
    pooled_lines,
    under_table,
    verdict_lines,
    warning_lines,
)
from tskd_tune.reports.forms.words import MISSING
from tskd_tune.reports.judge.verdicts import p_text

Record = dict[str, Any]
TABLES = ("arms", "verdicts", "runs")

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    # Two in a row would become one dash.
    "-": "-{}",
    "±": r"$\pm$",
    "\u2212": "$-$",
    "—": "---",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "λ": r"$\lambda$",
    "→": r"$\to$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}
_FACTS = ("difference", "n", "paired", "sd", "se", "df", "d_z", "d", "rho", "t_p", "p")
_SIGN_FLIPS = ("sign_flip_p", "sign_flip_smallest", "sign_flip_method", "tost_p", "margin")


# LaTeX


def latex(found: Summary) -> str:
    """Return the tables of verdicts and of arms; their lines are those of the other forms. It needs booktabs."""
    columns, rows = cells(found)
    titles = [(column.title, column.align) for column in columns]
    parts = [r"% Needs \usepackage{booktabs}."]
    if found["family"]:
        notes = [*verdict_lines(found), *pooled_lines(found)]
        parts.append(latex_table(_VERDICT_TITLES, _verdict_cells(found["family"]), notes))
    parts.append(latex_table(titles, rows, [*head_lines(found), *under_table(found), *warning_lines(found)]))
    return "\n\n".join(parts) + "\n"


def latex_table(titles: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table; the notes stand under it, a line each."""
    spec = "".join(align[0] for _, align in titles)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        _line([title for title, _ in titles]),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        *[rf"\par\smallskip\raggedright\footnotesize {escaped(note)}" for note in notes],
        r"\end{table}",
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text on one line that LaTeX prints as it is."""
    return "".join(_LATEX.get(mark, mark) for mark in " ".join(text.split()))


def _line(row: Sequence[str]) -> str:
    return " & ".join(map(escaped, row)) + r" \\"


_VERDICT_TITLES: list[tuple[str, Align]] = [
    ("arm", "left"),
    ("against", "left"),
    ("difference (points)", "right"),
    ("interval", "right"),
    ("seeds", "right"),
    ("p (Holm)", "right"),
    ("verdict", "left"),
]


def _verdict_cells(family: Mapping[str, Any]) -> list[list[str]]:
    return [_verdict_row(finding) for finding in family["findings"]]


def _verdict_row(finding: Mapping[str, Any]) -> list[str]:
    item, interval, p = finding["contrast"], finding["evidence"]["interval"], finding["holm_p"]
    return [
        item["arm"],
        item["baseline"],
        MISSING if item["difference"] is None else f"{item['difference']:+.2f}",
        MISSING if interval is None else f"{interval['low']:+.2f} to {interval['high']:+.2f}",
        str(item["n"]),
        MISSING if p is None else p_text(p).removeprefix("p ").removeprefix("= "),
        finding["verdict"] or "none (smoke)",
    ]


# CSV


def as_csv(found: Summary, rows: Sequence[Row], what: str) -> str:
    """Return one table as CSV with a line of titles: a line an arm, a contrast or a run; nothing is rounded.

    Args:
        found: the summary of the rows.
        rows: the rows.
        what: one of `TABLES`.
    """
    if what == "arms":
        return csv_text([_arm(arm, found["headline"]) for arm in found["arms"]])
    if what == "verdicts":
        return csv_text([_finding(finding) for finding in (found["family"] or {"findings": []})["findings"]])
    ended = [_run(row) for row in sorted(rows, key=lambda row: row.key)]
    return csv_text([*ended, *map(_unfinished, found["unfinished"])])


def csv_text(records: Sequence[Record]) -> str:
    """Return records as CSV; a title for each key that any of them has, and what one lacks is empty."""
    titles = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, titles, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue() if titles else ""


def _arm(arm: Mapping[str, Any], headline: str) -> Record:
    statistic = arm["statistics"]
    return {
        "arm": arm["arm"],
        "trials": " ".join(arm["runs"]),
        **{f"point.{hole}": value for hole, value in arm["point"].items()},
        "headline": headline,
        "of": arm["of"],
        "seeds": " ".join(map(str, statistic["seeds"])),
        **_numbers("", statistic),
        **_ends("interval", statistic["interval"]),
        "interval_beyond_scale": statistic["beyond"],
        **_ends("bootstrap", statistic["bootstrap"]),
        "note": statistic["note"],
        **{key: value for name, of in arm["metrics"].items() for key, value in _numbers(f"{name}_", of).items()},
        **_numbers("best_validation_", arm["best_validation"]),
        **_numbers("validation_selected_", arm["validation_selected"]),
        **_numbers("best_test_", arm["best_test"]),
        "failed": arm["failed"],
        "broke": arm["broke"],
        "stopped": arm["stopped"],
        "reviews": arm["reviews"],
        **_numbers("lambda_", arm["lambda"]),
        **{name: arm[name] for name in ("cost_seconds", "cost_ratio", "peak_memory_bytes", "preset")},
    }


def _numbers(prefix: str, statistic: Mapping[str, Any]) -> Record:
    return {f"{prefix}{name}": statistic[name] for name in ("n", "mean", "sd")}


def _ends(name: str, interval: Mapping[str, Any] | None) -> Record:
    return {f"{name}_{end}": interval[end] if interval else None for end in ("low", "high", "level")}


def _finding(finding: Mapping[str, Any]) -> Record:
    item, evidence = finding["contrast"], finding["evidence"]
    return {
        "arm": item["arm"],
        "baseline": item["baseline"],
        "verdict": finding["verdict"],
        **{name: item[name] for name in _FACTS},
        **_ends("interval", evidence["interval"]),
        "adjusted_p": evidence["p"],
        "holm_p": finding["holm_p"],
        **{name: item[name] for name in _SIGN_FLIPS},
        "seeds": " ".join(map(str, item["seeds"])),
        **{name: finding[name] for name in ("family_size", "seeds_to_resolve", "seeds_to_equivalence", "sentence")},
    }


def _unfinished(training: Mapping[str, Any]) -> Record:
    facts = {name: training[name] for name in ("arm", "seed", "epochs", "epochs_planned")}
    return {"trial": training["run"], **facts, "status": "unfinished"}


def _best(row: Row, part: Part) -> Record:
    """Return the best epoch by the headline on a part, and what was measured there."""
    best, prefix = row.best_by(part), f"best_{part}_"
    parts: list[Part] = ["validation", "test"] if part == "validation" else ["test"]
    names = [measured(each, row.headline) for each in parts] if row.headline else []
    values = {measured(part, best.metric): best.value, **best.also} if best else {}
    return {
        f"{prefix}epoch": best.epoch if best else None,
        **{f"{prefix}{name}": values.get(name) for name in dict.fromkeys([*names, *values])},
    }


def _run(row: Row) -> Record:
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
        "commit": row.commit,
        "started": row.started,
        "finished": row.finished,
    }
