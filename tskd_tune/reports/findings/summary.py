"""What a run has found, as plain data: means, spreads, intervals, verdicts, costs, failures.

Spread is the sample standard deviation over seeds (n - 1 in the denominator). A number over one seed says so.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tskd_tune.distillers import DISTILLERS
from tskd_tune.errors import InputError
from tskd_tune.metrics import measured
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder, damaged_document
from tskd_tune.records.teaching import lines, teachings
from tskd_tune.reports.findings.comparison import Comparison, Trained, compare
from tskd_tune.reports.findings.declared import require_form
from tskd_tune.reports.findings.grouping import alike, distinct
from tskd_tune.reports.findings.head import head
from tskd_tune.reports.findings.importance import importance
from tskd_tune.reports.findings.pareto import fronts
from tskd_tune.reports.findings.scale import is_beyond
from tskd_tune.reports.findings.teachers import worse_teachers
from tskd_tune.reports.judge import statistics as seeds

Summary = dict[str, Any]
LAST_EPOCH = ("test_top1", "val_top1")


def summary(run: RunFolder) -> Summary:
    """Return what a run has found so far, as plain data: the object that ``report --json`` prints.

    Under ``arms`` stands one mapping a trained point, in the order of the trials; those of a search are sorted by
    the searched metric. ``mean`` and ``sd`` are of ``headline``, over the seeds that are done, in percent;
    ``statistics`` is `statistics.Arm` of the same values: its 95 % interval, or a note on why there is none; ``beyond``
    says that the interval leaves 0 to 100 %. ``head`` is `head.head`: what was run.

    Under ``family`` stand the verdicts of a grid, and nothing else judges them: `verdicts.Family` as plain data, with
    ``findings`` (a sentence and a verdict for each contrast; no verdict below five common seeds), ``visible`` and
    ``sentence`` (the smallest difference that the design can see), and beside them

    - ``pooled``: `pooled.Pooled` of each method that was compared in two pairs of task and student or more;
    - ``declared``: a sentence on who is compared with whom;
    - ``notes``: sentences on looks, seeds that do not count, and a sweep that still runs;
    - ``look``: None, or ``declared``, ``at``, ``number``, ``complete`` (the declared seeds that have ended in every
      arm), ``next``, ``stop``, ``next_seeds``, ``alpha_spent`` and ``sentence`` of the last look that was taken.

    Where nothing is compared ``family`` is None, and ``family_reason`` says why; else that is empty.

    A training that broke has a row and is among ``failed`` (``broke``: a resume trains it again); one that was begun
    and has no row is among ``unfinished``. Wherever a mean stands, ``n`` seeds are in it ``of`` so many. What is
    damaged is left out, as ``damage`` says.

    Raises:
        RunError: the rows cannot be read.
        InputError: the ``compare`` of ``sweep.yaml`` was edited into what cannot be judged.
    """
    rows = sorted(run.rows(), key=lambda row: row.key)
    document, damaged = _document(run)
    search = _search(document)
    headline = search["metric"] if search else _headline(rows)
    points, open_trainings = _points(rows, bool(search)), unfinished(run, rows)
    counts = _counts(rows, run.state.expected, len(open_trainings))
    declared = 0 if counts["finished"] == run.state.expected else len(document.get("seeds") or [1])
    arms = [_arm(group, headline, max(declared, len(group))) for group in points]
    _tell_apart(arms)
    trained = [_trained(arm, group) for arm, group in zip(arms, points, strict=True)]
    for arm, its in zip(arms, trained, strict=True):
        found = seeds.arm(its.values(headline), name=its.label).plain()
        arm["statistics"] = found | {"beyond": is_beyond(headline, found["interval"])}
    baselines, weak = _compare_costs(arms), worse_teachers(arms, points)
    compared = Comparison(None, damaged) if damaged else _compared(run, document, trained, headline)
    return {
        "run": run.name,
        "kind": run.state.kind,
        "created": run.state.created,
        "confirms": run.state.confirms,
        "head": head(run, rows, len(arms)),
        "runs": counts,
        "search": search,
        "headline": headline,
        "family": compared.family,
        "family_reason": compared.reason,
        "baselines": baselines,
        "arms": _ranked(arms, search) if search else arms,
        "pareto": fronts(search, rows, arms, headline),
        "importance": importance(run, document, counts["finished"]) if search else None,
        "failed": _endings(rows, "failed"),
        "stopped": _endings(rows, "stopped"),
        "unfinished": open_trainings,
        "teachers": distinct(row.teacher.plain() for row in rows if row.teacher),
        "broken_teachers": [one.plain() for one in teachings(lines(run.store)) if one.state == "broken"],
        "methods": _methods(rows),
        "settings": _settings(arms),
        "warnings": [*_warnings(rows), *weak],
        "versions": distinct(row.versions for row in rows),
        "commits": distinct(row.commit for row in rows),
        "damage": [*filter(None, [damaged]), *run.damage()],
    }


def _document(run: RunFolder) -> tuple[dict[str, Any], str]:
    """Return the resolved document, or an empty one and a sentence where it is damaged."""
    try:
        document = run.document()
        require_form(document, run.path / "sweep.yaml")
    except InputError as error:
        return {}, damaged_document(run, error)
    return document, ""


def unfinished(run: RunFolder, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the trainings that were begun and have no row: they run now, or were cut off.

    Each has ``run``, ``arm`` (None where an older version wrote no file that tells), ``seed``, ``epochs`` trained and
    ``epochs_planned`` (None where nothing tells).
    """
    ended, begun = {row.key for row in rows}, run.begun()
    found = []
    for trial in run.trials():
        trained = Counter(line["seed"] for line in run.history(trial))
        known = begun.get(trial)
        for seed in known.seeds if known else sorted(trained):
            if (trial, seed) not in ended:
                facts = {"arm": known.arm if known else None, "epochs_planned": known.epochs if known else None}
                found.append({"run": trial, "seed": seed, "epochs": trained[seed], **facts})
    return found


def _points(rows: Sequence[Row], searched: bool) -> list[list[Row]]:
    """Gather the rows of each point: a search trains one a trial, a grid has a trial for each of its seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        point = row.run if searched else json.dumps([row.arm, row.point], sort_keys=True)
        groups.setdefault(point, []).append(row)
    return list(groups.values())


def _search(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a search judges by; None for a grid or a single training, whose arms are not ranked."""
    search = document.get("search") or {}
    if search.get("name", "grid") == "grid":
        return None
    return {
        "name": search["name"],
        "metric": search.get("metric", "val_top1"),
        "mode": search.get("mode", "max"),
        "objectives": search.get("objectives"),
    }


def _headline(rows: Sequence[Row]) -> str:
    """Return the metric of a grid: of the test part, or of the validation part where the test part was never read."""
    measured = {name for row in rows for name in row.metrics}
    return "val_top1" if "val_top1" in measured and "test_top1" not in measured else "test_top1"


def _trained(arm: Mapping[str, Any], rows: Sequence[Row]) -> Trained:
    return Trained(arm["arm"], arm["setting"], arm["reviewed"], rows)


def _compared(run: RunFolder, document: Mapping[str, Any], arms: Sequence[Trained], headline: str) -> Comparison:
    """Compare the arms of a grid; a search and a single training have none."""
    if run.state.kind == "train":
        return Comparison(None, "A single training: there is nothing to compare it with.")
    if _search(document):
        reason = "A search ranks its trials by what it chose them by: confirm the best on fresh seeds, in a grid"
        return Comparison(None, f"{reason}, to compare them.")
    return compare(arms, document, headline, run.state.expected)


def _arm(rows: list[Row], headline: str, of: int) -> dict[str, Any]:
    """Summarize the rows of one trial: the seeds of one point, of which there are to be so many."""
    first, done = rows[0], [row for row in rows if row.status == "done"]
    metrics = {name: statistic((row.metrics.get(name) for row in done), of) for name in _measured(done)}
    empty = statistic([], of)
    by_validation = [best for row in done if (best := row.best_by("validation"))]
    return {
        "arm": first.arm,
        "run": first.run,
        "runs": list(dict.fromkeys(row.run for row in rows)),
        "point": first.point,
        "seeds": [row.seed for row in rows],
        **metrics.get(headline, empty),
        "metrics": metrics,
        "best_validation": statistic((best.value for best in by_validation), of),
        "validation_selected": statistic((best.also.get(measured("test", best.metric)) for best in by_validation), of),
        "best_test": statistic((best.value for row in done if (best := row.best_by("test"))), of),
        "reviews": sum(epoch < max(row.epochs for row in rows) for epoch in first.plan.review),
        "plan": first.plan.plain(),
        "epochs": [row.epochs for row in rows],
        "epochs_planned": first.epochs_planned,
        "lambda": statistic(row.lambda_ for row in rows),
        "cost_seconds": statistic(row.cost.seconds for row in done)["mean"],
        "cost_ratio": None,
        "peak_memory_bytes": max((row.cost.peak_memory_bytes or 0 for row in rows), default=0) or None,
        "reviewed": first.experiment.get("review") is not None,
        "setting": {part: first.experiment.get(part) for part in ("task", "student")},
        "preset": first.preset,
        "deviations": first.deviations,
        "failed": sum(row.status == "failed" for row in rows),
        "broke": sum(row.broke for row in rows),
        "stopped": sum(row.status == "stopped" for row in rows),
        "stopped_at": _stopped_at([row for row in rows if row.status == "stopped"], headline),
    }


def _stopped_at(rows: Sequence[Row], headline: str) -> dict[str, Any] | None:
    """Return how far the stopped seeds of a point came, and the mean of the headline there."""
    if not rows:
        return None
    return {
        "epochs": max(row.epochs for row in rows),
        "mean": statistic(row.metrics.get(headline) for row in rows)["mean"],
    }


def _measured(rows: Sequence[Row]) -> list[str]:
    names = {name for row in rows for name in row.metrics}
    return [name for name in LAST_EPOCH if name in names] + sorted(names.difference(LAST_EPOCH))


def statistic(values: Iterable[float | None], of: int | None = None) -> dict[str, Any]:
    """Return ``n``, ``mean`` and sample ``sd`` of the values that are known; None where there are too few.

    Beside them stands ``of``, how many values there are to be: by default those that are known.
    """
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "of": len(known) if of is None else max(of, len(known)),
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
    return [_compare_within(group) for group in alike(timed, lambda arm: arm["setting"])]


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


def _counts(rows: Sequence[Row], expected: int | None, begun: int) -> dict[str, Any]:
    """Count the trainings: those that ended, and those that broke, are ``unfinished`` or were not begun."""
    ended = [row.status for row in rows if row.ended]
    counted = {status: ended.count(status) for status in ("done", "failed", "stopped")}
    return {
        "expected": expected,
        "finished": len(ended),
        **counted,
        "broke": len(rows) - len(ended),
        "unfinished": begun,
        "not_begun": None if expected is None else max(0, expected - len(rows) - begun),
    }


def _endings(rows: Sequence[Row], status: str) -> list[dict[str, Any]]:
    """Group the runs that ended with a status: the seeds of a trial that ended alike stand together."""

    names = ("run", "arm", "epochs", "epochs_planned", "reason", "broke")

    def key(row: Row) -> tuple[Any, ...]:
        return row.run, row.arm, row.epochs, row.epochs_planned, row.reason or "no reason was given", row.broke

    found: dict[Any, list[Row]] = {}
    for row in rows:
        if row.status == status:
            found.setdefault(key(row), []).append(row)
    return [
        {
            **dict(zip(names, facts, strict=True)),
            "seeds": [row.seed for row in of],
            "errors": [row.error for row in of if row.error],
        }
        for facts, of in found.items()
    ]


def _methods(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Name the source of every distiller that trained, and of every part of a combination."""
    names = distinct(name for row in rows for name in _distiller_names(row.experiment.get("distiller")))
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
    keys = distinct((arm["preset"], arm["deviations"]) for arm in arms)
    return [
        {
            "preset": preset,
            "deviations": deviations,
            "arms": [arm["arm"] for arm in arms if (arm["preset"], arm["deviations"]) == (preset, deviations)],
        }
        for preset, deviations in keys
    ]


def _warnings(rows: Sequence[Row]) -> list[dict[str, Any]]:
    sentences = distinct(sentence for row in rows for sentence in row.warnings)
    return [
        {"sentence": sentence, "arms": distinct(row.arm for row in rows if sentence in row.warnings)}
        for sentence in sentences
    ]
