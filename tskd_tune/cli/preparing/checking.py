"""The ``check`` command: errors and weaknesses of a file, and the estimated cost of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from tskd_tune import single
from tskd_tune.checks import Checked, check_experiment, check_sweep
from tskd_tune.cli.preparing.arms import course_of, is_sweep
from tskd_tune.cli.terminal import WRONG, complain, put_json, say, warn
from tskd_tune.clusters.kinds import is_cluster_file
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.reports.forms.short import duration
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating.estimate import Estimate
from tskd_tune.words import count

MOST_ARMS = 20


def check(file: Path, settings: Sequence[str], *, data: bool = False, as_json: bool) -> None:
    """Check a file, with ``data`` also all images of the dataset, and print the result.

    Raises:
        InputError: the file or the data are wrong; the message has a sentence for every mistake.
    """
    if is_cluster_file(file):
        check_cluster(file, settings, as_json=as_json)
        return
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


def check_cluster(file: Path, settings: Sequence[str], *, as_json: bool) -> None:
    """Check a cluster file of Ray, and print the result.

    Raises:
        InputError: the file is wrong; the message has a sentence for every mistake.
    """
    from tskd_tune.clusters.rules import ClusterFile, mistakes

    problems = [f"--set: {file} is a cluster file, whose keys are set in the file"] if settings else []
    problems += [f"{file}: {mistake}" for mistake in mistakes(ClusterFile.read(file))]
    if as_json:
        put_json({"ok": not problems, "problems": problems, "kind": "cluster"})
    if problems and not as_json:
        raise InputError("\n".join(problems))
    if problems:
        complain("\n".join(problems))
        raise typer.Exit(WRONG)
    if not as_json:
        say(f"{file}: a cluster file without mistakes; start the cluster with `ray up {file}`")


def find(file: Path, settings: Sequence[str], *, data: bool = False) -> Checked:
    """Check a file, with ``data`` also read all images of the dataset, and estimate the cost.

    Raises:
        InputError: the file or the data are wrong; the message has a sentence for every mistake.
    """
    if is_sweep(file):
        return check_sweep(Sweep.load(file, settings), data=data)
    return check_experiment(single.read_checked(file, settings), data=data)


def _plain(found: Checked) -> dict[str, object]:
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
        "method": found.method,
        **({"teachers": list(found.teachers)} if found.teachers else {}),
        "arms": arms,
        "left_out": list(found.left_out),
        "warnings": [{"sentence": sentence, "arms": of} for sentence, of in found.warnings().items()],
        "data": [summary.plain() for summary in found.data],
        "data_warnings": None if found.oddities is None else list(found.oddities),
        "estimate": found.cost.plain(),
    }


def _tell(file: Path, found: Checked) -> None:
    cost = found.cost
    counts = count(found.points, "point"), count(len(found.seeds), "seed"), count(cost.runs, "run")
    method = f"; {found.method}" if found.method else ""
    say(f"{file}: in order, {counts[0]} x {counts[1]} = {counts[2]}{method}")
    if found.teachers:
        seeds = ", ".join(map(str, found.teachers))
        say(f"  {len(found.teachers)} teachers (seeds {seeds}); an arm with a teacher is a point under each of them")
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
        say("deviations from the preset, in every arm:")
    for line in shared:
        say(f"  {line}")
    warn(f"{sentence} ({_few(of)})" for sentence, of in found.warnings().items())
    say(cost_line(cost))
    say(cost.how)


def _tell_data(found: Checked) -> None:
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
        f", {duration(3600 * cost.teacher_hours)} of it for {count(cost.teachers, 'teacher')}" if cost.teachers else ""
    )
    return (
        f"about {duration(3600 * cost.hours)}{teachers}, {_device_time(cost)}, {count(cost.epochs, 'epoch')} in all,"
        f" and {_size(cost.disk_bytes)} of disk, {_size(cost.checkpoint_bytes)} more for checkpoints while it runs"
    )


def _device_time(cost: Estimate) -> str:
    """Return the time of all trainings one after the other, on the device that was timed."""
    on = "of the CPU cores of a training" if cost.device == "cpu" else f"of one GPU ({cost.device})"
    return f"{duration(3600 * cost.device_hours)} {on}"


def _course(experiment: Experiment) -> str:
    plan = experiment.plan()
    if plan is None:
        return f"{count(experiment.training.epochs, 'epoch')}, no review"
    reviews = count(len(plan.review_nodes), "review")
    return f"{count(experiment.training.epochs, 'epoch')}, {reviews}, the first at epoch {plan.review_epochs[0]}"


def _shared(deviations: Sequence[Sequence[str]]) -> list[str]:
    """Return the deviations that all arms have in common."""
    return [line for line in deviations[0] if all(line in other for other in deviations)]


def _few(arms: Sequence[str]) -> str:
    more = f" and {len(arms) - 3} more" if len(arms) > 3 else ""
    return f"{'; '.join(arms[:3])}{more}"


def _size(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
