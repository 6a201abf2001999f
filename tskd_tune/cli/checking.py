"""The ``check`` command: what is wrong, what is weak, and what it will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from tskd_tune import single
from tskd_tune.cli.arms import course_of, is_sweep
from tskd_tune.cli.terminal import WRONG, complain, put_json, say, warn
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import summaries, verify_data
from tskd_tune.records.tracking import Place
from tskd_tune.records.wandb_rules import refuse
from tskd_tune.reports.forms.words import duration
from tskd_tune.sweep import estimate
from tskd_tune.sweep.checking import refuse as refuse_mistakes
from tskd_tune.sweep.controls import identity
from tskd_tune.sweep.estimate import Estimate
from tskd_tune.sweep.machine import refuse_here
from tskd_tune.sweep.schema import Sweep
from tskd_tune.tasks.summary import DataSummary

MOST_ARMS = 20


@dataclass(frozen=True)
class Findings:
    """What a file that is in order holds.

    Attributes:
        kind: ``sweep`` or ``experiment``.
        points: how many points are trained, and with which seeds.
        arms: the experiments by label: all of a grid, the corners of a search's space.
        left_out: a sentence for every control that adds no arm.
        data: what the data of each task is taken for.
        oddities: a sentence for all that is odd about the data; None where it was not read.
    """

    kind: str
    points: int
    seeds: list[int]
    arms: dict[str, Experiment]
    cost: Estimate
    left_out: Sequence[str]
    data: Sequence[DataSummary]
    oddities: Sequence[str] | None


def check(file: Path, settings: Sequence[str], *, data: bool = False, as_json: bool) -> None:
    """Check a file, and all its data where that is asked for, and tell what was found.

    Raises:
        InputError: something is wrong, with a sentence for every mistake.
    """
    try:
        found = find(file, settings, data=data)
    except InputError as error:
        if not as_json:
            raise
        put_json({"ok": False, "problems": str(error).splitlines()})
        complain(str(error))
        raise typer.Exit(WRONG) from error
    if as_json:
        put_json(_plain(found))
    else:
        _tell(file, found)


def find(file: Path, settings: Sequence[str], *, data: bool = False) -> Findings:
    """Check a sweep or an experiment, read its data where that is asked for, and estimate its cost.

    Raises:
        InputError: with a sentence for every mistake.
    """
    if not is_sweep(file):
        experiment = single.read(file, settings)
        single.check(experiment)
        refuse(Place())
        arms = {single.label(experiment): experiment}
        about = summaries(arms.values()), verify_data(arms.values()) if data else None
        return Findings("experiment", 1, [experiment.seed], arms, estimate.of_experiment(experiment), [], *about)
    sweep = Sweep.load(file, settings)
    refuse_mistakes(sweep)
    refuse(Place(**sweep.wandb.plain()))
    refuse_here(sweep)
    points, count = estimate.candidates(sweep)
    arms = {point.label: sweep.experiment_at(point) for point in points}
    about = summaries(arms.values()), verify_data(arms.values()) if data else None
    return Findings("sweep", count, sweep.all_seeds(), arms, estimate.of_sweep(sweep), sweep.derived.left_out, *about)


def _plain(found: Findings) -> dict[str, Any]:
    arms = [
        {
            "arm": arm,
            **course_of(experiment).plain(),
            "preset": experiment.preset,
            "deviations": experiment.deviations(),
        }
        for arm, experiment in found.arms.items()
    ]
    return {
        "ok": True,
        "problems": [],
        "kind": found.kind,
        "points": found.points,
        "seeds": found.seeds,
        "arms": arms,
        "left_out": list(found.left_out),
        "warnings": [{"sentence": sentence, "arms": of} for sentence, of in _warnings(found).items()],
        "data": [summary.plain() for summary in found.data],
        "data_warnings": None if found.oddities is None else list(found.oddities),
        "estimate": found.cost.plain(),
    }


def _tell(file: Path, found: Findings) -> None:
    cost = found.cost
    counts = _count(found.points, "point"), _count(len(found.seeds), "seed"), _count(cost.runs, "run")
    say(f"{file}: in order, {counts[0]} x {counts[1]} = {counts[2]}")
    shared = _shared([experiment.deviations() for experiment in found.arms.values()])
    for arm, experiment in list(found.arms.items())[:MOST_ARMS]:
        say(f"  {arm}: {_course(experiment)}")
        for line in experiment.deviations():
            if line not in shared:
                say(f"    {line}")
    if len(found.arms) > MOST_ARMS:
        say(f"  and {len(found.arms) - MOST_ARMS} more; --json shows all")
    for line in found.left_out:
        say(line)
    _tell_data(found)
    if shared:
        say("not as the preset has it, in every arm:")
    for line in shared:
        say(f"  {line}")
    warn(f"{sentence} ({_few(of)})" for sentence, of in _warnings(found).items())
    say(cost_line(cost))
    say(cost.how)


def _tell_data(found: Findings) -> None:
    for summary in found.data:
        for line in summary.lines():
            say(line)
    if found.oddities is None:
        say("the data was not read; --data reads all of it")
    else:
        say("all data can be read")
        warn(found.oddities)


def cost_line(cost: Estimate) -> str:
    """Return the estimate in a sentence."""
    teachers = (
        f", {duration(3600 * cost.teacher_hours)} of it for {_count(cost.teachers, 'teacher')}" if cost.teachers else ""
    )
    return (
        f"about {duration(3600 * cost.hours)}{teachers}, {_count(cost.epochs, 'epoch')} in all,"
        f" and {_size(cost.disk_bytes)} of disk"
    )


def _course(experiment: Experiment) -> str:
    plan = experiment.plan()
    if plan is None:
        return f"{experiment.training.epochs} epochs, no review"
    reviews = _count(len(plan.review_epochs), "review")
    return f"{experiment.training.epochs} epochs, {reviews}, the first at epoch {plan.review_epochs[0]}"


def _shared(deviations: Sequence[Sequence[str]]) -> list[str]:
    """Return what all arms have in common."""
    return [line for line in deviations[0] if all(line in other for other in deviations)]


def _warnings(found: Findings) -> dict[str, list[str]]:
    """Return every warning once, with the arms that it concerns."""
    warnings: dict[str, list[str]] = {}
    for arm, experiment in found.arms.items():
        for sentence in experiment.warnings():
            warnings.setdefault(sentence, []).append(arm)
    same: dict[str, list[str]] = {}
    for arm, experiment in found.arms.items():
        same.setdefault(identity(experiment.plain()), []).append(arm)
    twins = [arms for arms in same.values() if len(arms) > 1 and found.points == len(found.arms)]
    told = "these arms are one experiment, and the same seed gives the same results; take all but one out"
    return warnings | ({told: [" = ".join(arms) for arms in twins]} if twins else {})


def _few(arms: Sequence[str]) -> str:
    more = f" and {len(arms) - 3} more" if len(arms) > 3 else ""
    return f"{'; '.join(arms[:3])}{more}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _size(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
