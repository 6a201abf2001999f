"""Checks a sweep without training: every branch, the ends of every range, the comparisons, searcher and scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tskd_tune.callbacks import refuse_unready
from tskd_tune.errors import InputError, did_you_mean
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import task_of
from tskd_tune.experiment.teacher import check_weights
from tskd_tune.experiment.verification import parts_of, verify
from tskd_tune.metrics import PERCENT, Measured, measured
from tskd_tune.plain import Document
from tskd_tune.reports.findings.allowing import unfit
from tskd_tune.reports.findings.pareto import COSTS
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.distinct import too_few
from tskd_tune.sweeps.space.points import Point
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.sweeps.space.teacher_seeds import problems as problems_of_teachers


def check(sweep: Sweep) -> list[str]:
    """Return a sentence for every mistake of a sweep; an empty list if the sweep can be run.

    Every branch and both ends of every range are built as whole experiments. Nothing is trained.
    """
    with sweep.places.named():
        space = sweep.space()
        space.refuse("grid" if sweep.is_exact else "search")
    points = _Points(sweep)
    problems = space.check(points.refuse, sweep.places)
    return problems or [
        sweep.places.name(problem)
        for problem in _check_labels(sweep, space)
        or _check_teachers(sweep, space)
        or _check_compare(sweep, space)
        or _check_metrics(sweep, space)
        or _check_search(sweep, space)
    ]


def refuse(sweep: Sweep) -> None:
    """Refuse a sweep that has a mistake.

    Raises:
        InputError: with a sentence for every mistake.
    """
    if problems := check(sweep):
        raise InputError("\n".join(problems))
    refuse_unready(sweep.callbacks)


class _Points:
    """Checks the points of a space; points that differ only in rates and factors are built once."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._known: dict[str, InputError | None] = {}

    def refuse(self, document: dict[str, Any]) -> None:
        """Refuse the experiment of a point.

        Raises:
            InputError: the experiment cannot be trained.
        """
        if "seed" in document:
            raise InputError(
                "seed: an arm cannot have its own seed, because arms are compared seed by seed; list all seeds under"
                " `seeds`"
            )
        experiment = self._sweep.experiment_at(Point({}, document, ""))
        parts = parts_of(experiment)
        if parts not in self._known:
            self._known[parts] = _misfit(self._sweep, experiment)
        if (misfit := self._known[parts]) is not None:
            raise misfit


def _misfit(sweep: Sweep, experiment: Experiment) -> InputError | None:
    """Return the error of an experiment whose parts do not fit together."""
    try:
        _try_parts(sweep, experiment)
    except InputError as error:
        return error
    return None


def _try_parts(sweep: Sweep, experiment: Experiment) -> None:
    _refuse_workers(sweep.resources.worker_count, experiment)
    verify(experiment)
    check_weights(experiment)
    if sweep.is_judged and task_of(experiment).facts().samples[1] == 0:
        raise InputError(
            "task.validation: is 0, but the searcher or the scheduler compares trials on the validation set; set"
            " task.validation to a number of training images"
        )


def _refuse_workers(workers: int, experiment: Experiment) -> None:
    """Refuse options that need another number of workers of a trial."""
    experiment.training.compute().refuse_shared_by(workers)
    if workers > 1 and experiment.training.graphs == "always":
        raise InputError(
            f"training.graphs: 'always', but resources give a trial {workers} workers, and no graph can hold what they"
            " exchange; set training.graphs: auto, or give a trial one GPU"
        )


def _check_labels(sweep: Sweep, space: SearchSpace) -> list[str]:
    """Return a sentence for each label that several points of a grid share: they would count as one arm."""
    points: dict[str, list[Point]] = {}
    for point in space.grid() if sweep.is_exact else []:
        points.setdefault(point.label, []).append(point)
    return [
        f"experiment: {len(those)} points of the grid are called '{label}' ({those[0].values} and"
        f" {those[1].values}); give their values different labels, as in choice: {{label: value}}"
        for label, those in points.items()
        if len(those) > 1
    ]


def _check_teachers(sweep: Sweep, space: SearchSpace) -> list[str]:
    """Return the mistakes of ``teacher.seeds``."""
    points = space.grid() if sweep.is_exact else list(space.corners())
    judged = f"the search '{sweep.search.name}'" if not sweep.is_exact else f"the scheduler '{sweep.scheduler.name}'"
    return problems_of_teachers(points, sweep.experiment_at, judged=judged if sweep.is_judged else "")


def _check_compare(sweep: Sweep, space: SearchSpace) -> list[str]:
    """Return the mistakes of ``compare``: a search has no arms to compare, a name fits nothing, seeds do not fit."""
    return _check_comparisons(sweep, space) or unfit(sweep.compare.allow, _plain_points(sweep, space))


def _plain_points(sweep: Sweep, space: SearchSpace) -> Iterator[Document]:
    points = space.grid() if sweep.is_exact else space.corners()
    return (sweep.experiment_at(point).plain() for point in points)


def _check_comparisons(sweep: Sweep, space: SearchSpace) -> list[str]:
    compare = sweep.compare
    names = [name for pair in compare.pairs or [] for name in pair]
    names += [] if compare.baseline is None else [compare.baseline]
    names += [name for pair in compare.controls.items() for name in pair]
    if not sweep.is_exact:
        found = "compare: the trials of a search are ranked, not compared; remove compare, or use search: {name: grid}"
        return [found] if names or compare.interim else []
    if compare.interim and (problem := _interim_problem(sweep, compare.interim[-1])):
        return [problem]
    if compare.rule == "margin" and compare.margin is None and _unit(sweep, space) != PERCENT:
        return [
            "compare.rule: 'margin' needs compare.margin, because the task's metric is not in percent and so has no"
            " default margin; set compare.margin in the unit of the metric"
        ]
    labels = [point.label for point in space.grid()] if names else []
    return [
        f"compare: no arm is called '{name}'{did_you_mean(name, labels)}"
        for name in dict.fromkeys(names)
        if name not in labels
    ]


def _unit(sweep: Sweep, space: SearchSpace) -> str:
    """Return the unit of the metric by which the arms are compared."""
    return task_of(sweep.experiment_at(next(iter(space.corners())))).facts().metrics[0].unit


def _interim_problem(sweep: Sweep, last: int) -> str | None:
    """Return what is wrong with the interim analyses, the last of them at ``last`` seeds; None if nothing is."""
    if sweep.is_judged:
        return (
            f"compare.interim: the scheduler '{sweep.scheduler.name}' compares all seeds of a trial at once; use"
            " scheduler: fifo, or leave compare.interim out"
        )
    declared = len(sweep.all_seeds())
    if last == declared:
        return None
    return (
        f"compare.interim: the sweep ends with its last interim analysis, at {last} seeds, but {declared} seeds"
        f" are declared; add {declared} to compare.interim, or drop seeds"
    )


def _check_metrics(sweep: Sweep, space: SearchSpace) -> list[str]:
    """Return a sentence for each metric of the search that is not measured, so that no trial would have a value.

    Where trials are judged, each task of the space must measure the metric. Otherwise the metric only orders arms.
    """
    experiments = [sweep.experiment_at(point) for point in space.corners()]
    tasks = [{metric.name for metric in task_of(one).facts().metrics} for one in experiments]
    lacking = any if sweep.is_judged else all
    key = "metric" if sweep.search.objectives is None else "objectives"
    usual = {measured("validation", metric) for metric in set.intersection(*tasks)}
    return [
        f"search.{key}: the task does not measure '{name}'{did_you_mean(name, usual)}"
        for name in sweep.goals
        if name not in COSTS and lacking(_metric_in(name) not in metrics for metrics in tasks)
    ]


def _metric_in(name: str) -> str:
    """Return the metric of a name in histories: of ``val_loss``, and of ``val_teacher_loss``, it is ``loss``."""
    found = Measured.read(name)
    return name if found is None else found.metric


def _check_search(sweep: Sweep, space: SearchSpace) -> list[str]:
    """Return the errors of searcher and scheduler, such as a grace period that ends before a first review."""
    if not sweep.is_judged:
        return []
    if sweep.resources.together != 1:
        who = f"scheduler '{sweep.scheduler.name}'" if sweep.is_exact else f"search '{sweep.search.name}'"
        return [
            f"resources.together: is {sweep.resources.together}, but it has no effect here: the {who} compares whole"
            " trials, so a process trains the seeds of one point together, and no other point; leave together out"
        ]
    problems = [] if sweep.is_exact else [*_wrong_target(sweep), *_too_few(sweep, space)]
    for make in (sweep.scheduler_for,) if problems else (sweep.searcher_for, sweep.scheduler_for):
        try:
            make(space)
        except InputError as error:
            problems.append(str(error))
    return problems


def _wrong_target(sweep: Sweep) -> list[str]:
    metric = sweep.stop.metric if sweep.stop is not None else None
    if metric is None or metric.removeprefix("val_") == sweep.metric.removeprefix("val_"):
        return []
    return [
        f"stop.metric: is {metric}, but the search compares trials by {sweep.metric}; leave stop.metric out, or set"
        " search.metric"
    ]


def _too_few(sweep: Sweep, space: SearchSpace) -> list[str]:
    trials = sweep.search.options()["trials"]
    few = too_few(space, trials, sweep.experiment_at)
    return [few] if few else []
