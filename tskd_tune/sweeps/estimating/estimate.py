"""Estimates what a run will cost (trainings, hours, disk) from a few steps on this machine.

Where a training reads files as it goes, some batches are read and timed; otherwise no data is read. Nothing is trained.
Arms are timed until the budget is used, first arms of different kinds, then arms that differ only in numbers. For every
other arm, its own number of steps is multiplied by the seconds per step of the most similar timed arm. Bytes are
counted for all arms.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from tskd_tune.errors import InputError, TskdTuneError, reason
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, assemble_teacher, task_of, teacher_network
from tskd_tune.experiment.teacher import is_ready, teacher_key, trains_a_teacher
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.estimating.disk import OF_PAGE, Sizes, of_checkpoints, of_teacher, of_training, sizes
from tskd_tune.sweeps.estimating.loading import Loads
from tskd_tune.sweeps.estimating.stopwatch import Clock, Pace, Stopwatch, by_epochs, pace, seconds
from tskd_tune.sweeps.scheduling.schedulers import stops_trials
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.teacher_seeds import name_of
from tskd_tune.tasks.stand_ins import stand_in_targets
from tskd_tune.training.teachers import TeacherCache

MOST_POINTS = 12
MOST_NAMED = 4
BUDGET = 6.0
# Options that change neither the seconds per step nor the bytes of a state.
OF_NO_COST: Mapping[str, Sequence[str]] = {
    "training": ("lr", "milestones", "schedule", "weight_decay", "gamma", "epochs"),
    "review": ("lambda", "delta", "plan"),
    "teacher": ("weights", "training"),
}


@dataclass(frozen=True)
class Estimate:
    """A rough estimate of what a run will cost on this machine.

    Attributes:
        runs: number of trainings, one per seed and point.
        epochs: the epochs of all trainings; for a search, the upper limit.
        hours: wall hours, including the hours of the teachers.
        teacher_hours: the wall hours of the teachers that are not in the cache.
        teachers: the number of these teachers.
        concurrent: number of processes that train at once on this machine.
        disk_bytes: the bytes of the run's folder at the end, and of these teachers' files in the cache.
        timed: the labels of the arms that were timed.
        taken_from: label of every other arm -> label of the timed arm whose pace was used.
        how: a sentence that says how the cost was measured.
        device: the GPU on which steps were timed, or ``cpu``.
        device_hours: hours of one such device, all trainings and teachers one after the other; on the CPU, hours of as
            many cores as a training has.
        checkpoint_bytes: the most bytes of the checkpoints of the trainings that run at once, beside ``disk_bytes``.
    """

    runs: int
    epochs: int
    hours: float
    teacher_hours: float
    teachers: int
    concurrent: int
    disk_bytes: int
    timed: list[str]
    taken_from: dict[str, str]
    how: str
    checkpoint_bytes: int = 0
    device: str = "cpu"
    device_hours: float = 0.0

    def plain(self) -> dict[str, object]:
        """Return the estimate as plain data."""
        return dict(vars(self))


def of_experiment(experiment: Experiment, *, budget: float = BUDGET, clock: Clock = time.perf_counter) -> Estimate:
    """Estimate one training.

    Args:
        experiment: the experiment to train, already checked.
        budget: about how many seconds the timing may take.
        clock: counts seconds.
    """
    arms = {"the experiment": experiment}
    return _estimate(arms, runs=1, concurrent=1, budget=budget, clock=clock, single=True)


def of_sweep(sweep: Sweep, *, budget: float = BUDGET, clock: Clock = time.perf_counter) -> Estimate:
    """Estimate a sweep: a grid from its points, a search from the corners of its space.

    Args:
        sweep: the sweep to run, already checked.
        budget: about how many seconds the timing may take.
        clock: counts seconds.
    """
    points, count = candidates(sweep)
    seeds = len(sweep.all_seeds())
    trials = count * (1 if sweep.is_judged else seeds)
    found = _estimate(
        {name_of(point): sweep.experiment_at(point) for point in points},
        runs=count * seeds,
        concurrent=min(concurrency(sweep), trials),
        budget=budget,
        clock=clock,
    )
    how = found.how
    if stops_trials(sweep.scheduler.name):
        how += f"; less time if the scheduler '{sweep.scheduler.name}' stops runs early"
    if sweep.budget is not None and sweep.budget.hours is not None:
        how += f"; the sweep ends after {sweep.budget.hours:g} h at the latest, the end of its budget"
    if sweep.resources.together != 1:
        how += "; less on a GPU, as trainings that share a process are counted one after the other"
    if sweep.resources.worker_count > 1:
        how += f"; each trial takes {sweep.resources.worker_count} workers, and was timed with one"
    return replace(found, how=how)


def candidates(sweep: Sweep) -> tuple[list[Point], int]:
    """Return the points of a grid, or the corners of a search's space; and how many points will be trained.

    An arm under several teachers is a point for each of them.

    Raises:
        InputError: a grid has a range.
    """
    if sweep.is_exact:
        points = sweep.points()
        return points, len(points)
    return list(sweep.space().corners()), int(sweep.search.options()["trials"])


def concurrency(sweep: Sweep) -> int:
    """Return how many trials run at once on this machine."""
    resources = sweep.resources
    workers = resources.worker_count
    fitting = (os.cpu_count() or 1) // (resources.cpu * workers)
    gpu = min(torch.cuda.device_count(), 1) * workers if resources.gpu is None else resources.gpu
    if gpu:
        fitting = min(fitting, int(torch.cuda.device_count() / gpu))
    return max(1, min(fitting, resources.concurrent or fitting))


def _estimate(
    arms: Mapping[str, Experiment], *, runs: int, concurrent: int, budget: float, clock: Clock, single: bool = False
) -> Estimate:
    with _undisturbed():
        began = clock()
        missing = _without_teacher(arms.values())
        load = Loads(budget / 4, clock)
        teachers = [_teacher_seconds(one, load, budget / max(4, 2 * len(missing)), clock) for one in missing]
        paces = _paces(arms, load, began + budget, clock)
        took = clock() - began
        kept = _sizes(arms.values())
        taught = sum(of_teacher(experiment, task_of(experiment)) for experiment in missing)
    likes = {arm: most_like(experiment, {name: arms[name] for name in paces}) for arm, experiment in arms.items()}
    costs = [seconds(experiment, paces[likes[arm]]) for arm, experiment in arms.items()]
    left = [of_training(kept[kind(one)], one.training.epochs, single=single) for one in arms.values()]
    trained = max(*costs, runs * fmean(costs) / concurrent)
    return Estimate(
        runs=runs,
        epochs=round(runs * fmean(experiment.training.epochs for experiment in arms.values())),
        hours=(trained + sum(teachers)) / 3600,
        teacher_hours=sum(teachers) / 3600,
        teachers=len(teachers),
        concurrent=concurrent,
        disk_bytes=round(runs * fmean(left)) + OF_PAGE + taught,
        timed=list(paces),
        taken_from={arm: like for arm, like in likes.items() if arm != like},
        how=_how(took, concurrent, list(paces), likes, load.words()),
        device=next(iter(arms.values())).training.compute().name(),
        device_hours=(runs * fmean(costs) + sum(teachers)) / 3600,
        checkpoint_bytes=of_checkpoints(kept.values(), concurrent),
    )


# Which arms are similar


def kind(experiment: Experiment) -> str:
    """Return an experiment's text without seed, rates and plan; equal texts mean equal seconds per step and bytes."""
    plain = {name: part for name, part in experiment.plain().items() if name not in ("seed", "evaluation", "preset")}
    for name, idle in OF_NO_COST.items():
        if isinstance(plain.get(name), Mapping):
            plain[name] = {key: value for key, value in plain[name].items() if key not in idle}
    return json.dumps(plain, sort_keys=True)


def most_like(experiment: Experiment, timed: Mapping[str, Experiment]) -> str:
    """Return the label of the timed arm that is most similar to an experiment."""
    mine, parts = _leaves(json.loads(kind(experiment))), ("task", "student", "review", "distiller", "teacher")

    def distance(arm: str) -> tuple[object, ...]:
        other = timed[arm]
        its = _leaves(json.loads(kind(other)))
        differing = {key for key in mine.keys() | its.keys() if mine.get(key) != its.get(key)}
        networks = sum(mine.get(f"{part}.name") != its.get(f"{part}.name") for part in parts)
        reviews = (experiment.review is None) != (other.review is None)
        return networks + reviews, abs(_snapshots(experiment) - _snapshots(other)), len(differing)

    return min(timed, key=distance)


def _snapshots(experiment: Experiment) -> int:
    return 0 if experiment.review is None else experiment.review.k


def _leaves(document: object, path: str = "") -> dict[str, object]:
    """Return every value of nested mappings by the path of its keys."""
    if not isinstance(document, Mapping):
        return {path: document}
    found: dict[str, object] = {}
    for key, value in document.items():
        found |= _leaves(value, f"{path}.{key}" if path else str(key))
    return found


def evenly(arms: Sequence[str], most: int) -> list[str]:
    """Choose at most ``most`` arms, evenly spaced, including the first and the last arm."""
    if len(arms) <= most:
        return list(arms)
    return [arms[round(place * (len(arms) - 1) / (most - 1))] for place in range(most)]


def one_of_each(arms: Mapping[str, Experiment]) -> list[str]:
    """Return the first arm of every kind."""
    found: dict[str, str] = {}
    for arm, experiment in arms.items():
        found.setdefault(kind(experiment), arm)
    return list(found.values())


def _how(took: float, concurrent: int, timed: Sequence[str], likes: Mapping[str, str], loading: str) -> str:
    """Say which arms were timed, and which pace was used for the other arms."""
    others = {arm: like for arm, like in likes.items() if arm != like}
    which = "every arm" if not others else f"{len(timed)} of {len(likes)} arms"
    as_like = _few([f"{arm} as {like}" for arm, like in others.items()])
    rest = (
        f"; for each other arm, its number of steps at the speed of the most similar timed arm ({as_like})"
        if others
        else ""
    )
    images = "with batches of the data" if loading else "on random images"
    data = loading or "without the loading of data, which are read before a training"
    return (
        f"timed for {took:.1f} s on this machine, a few steps {images} of {which} ({_few(timed)}){rest}; {data};"
        f" {concurrent} at once; a rough estimate, without waiting and retries; the disk space is counted for every arm"
    )


def _few(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMED
    return "; ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


# Timing and counting


def _paces(arms: Mapping[str, Experiment], load: Loads, deadline: float, clock: Clock) -> dict[str, Pace]:
    """Time arms of different kinds until the budget is used: the first and the last arm, then the arms between them."""
    chosen = evenly(one_of_each(arms), MOST_POINTS)
    order = sorted(range(len(chosen)), key=lambda place: (min(place, len(chosen) - 1 - place), place))
    paces: dict[str, Pace] = {}
    for number, place in enumerate(order):
        left = deadline - clock()
        if paces and left <= 0:
            break
        paces[chosen[place]] = _pace(arms[chosen[place]], load, max(0.0, left) / (len(order) - number), clock)
    return {arm: paces[arm] for arm in chosen if arm in paces}


def _pace(given: Experiment, load: Loads, budget: float, clock: Clock) -> Pace:
    experiment, loading = by_epochs(given), load.of(given)
    watch = Stopwatch(task_of(experiment), experiment.training.compute(), clock, loading)
    teacher = teacher_network(experiment, watch.task.facts()) if experiment.needs_teacher else None
    trainer = assemble(experiment, watch.task, teacher, stand_in_targets(watch.task.facts()))
    with _stepping(f"distiller '{experiment.distiller.name}'"):
        timed = pace(experiment, trainer, watch, budget)
    load.saw(loading, timed.general)
    return timed.loaded(loading)


def _without_teacher(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return one experiment for every teacher that the cache does not hold."""
    cache = TeacherCache()
    needed = {teacher_key(experiment): experiment for experiment in experiments if trains_a_teacher(experiment)}
    return [experiment for experiment in needed.values() if not is_ready(experiment, cache)]


def _teacher_seconds(experiment: Experiment, load: Loads, budget: float, clock: Clock) -> float:
    """Time the steps of the training of an experiment's teacher, and return its seconds."""
    plain, loading = experiment.teacher_experiment(), load.of(experiment)
    watch = Stopwatch(task_of(plain), plain.training.compute(), clock, loading)
    trainer = assemble_teacher(experiment, watch.task, stand_in_targets(watch.task.facts()))
    with _stepping("teacher's training"):
        return seconds(plain, pace(plain, trainer, watch, budget).loaded(loading))


@contextmanager
def _stepping(what: str) -> Iterator[None]:
    """Turn any exception that a component raises in a step of training into an `InputError`."""
    try:
        yield
    except TskdTuneError:
        raise
    except Exception as error:
        raise InputError(
            f"a step of training with the {what} fails ({reason(error)}); correct the component or its options"
        ) from error


def _sizes(experiments: Iterable[Experiment]) -> dict[str, Sizes]:
    """Return the sizes of every kind of arm; each kind is built once and is not trained."""
    found: dict[str, Sizes] = {}
    for experiment in experiments:
        name = kind(experiment)
        if name not in found:
            task = task_of(experiment)
            teacher = teacher_network(experiment, task.facts()) if experiment.needs_teacher else None
            found[name] = sizes(experiment, assemble(experiment, task, teacher, stand_in_targets(task.facts())))
    return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Restore torch's random generators and its number of threads at the end of the block."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
