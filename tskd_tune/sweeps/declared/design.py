"""The design of a sweep: the numbers that the status of its run needs."""

from __future__ import annotations

from tskd_tune.outside import short_name
from tskd_tune.records.entries.design import Design, digest
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.registry import Component
from tskd_tune.sweeps.declared.configs import Describe
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.settings import Budget
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.scheduling.schedulers import stops_trials
from tskd_tune.sweeps.searching.known import Trainings
from tskd_tune.sweeps.space.distinct import told_apart


def design_of(sweep: Sweep) -> Design:
    """Return the design of a sweep.

    Raises:
        InputError: a point is not a valid experiment.
    """
    points = told_apart([*map(Describe(sweep, []), sweep.points())]) if sweep.is_exact else []
    lengths = {sweep.experiment_at(point).training.epochs for point in sweep.space().corners()}
    return Design(
        seeds=len(sweep.all_seeds()) if sweep.is_judged else 1,
        epochs=lengths.pop() if len(lengths) == 1 else None,
        searched=not sweep.is_exact,
        metric=sweep.metric,
        mode=sweep.mode,
        objectives=sweep.search.objectives is not None,
        at_most=stops_trials(sweep.scheduler.name),
        method=method_of(sweep),
        trials=None if sweep.is_exact else sweep.search.options().get("trials"),
        arms=[*dict.fromkeys(point.arm for point in points)] if sweep.is_exact else None,
        labels={point.identity: point.arm for point in points} if sweep.is_exact else None,
        trained_seeds=sweep.all_seeds(),
        hours=None if sweep.budget is None else sweep.budget.hours,
    )


def design_in(run: RunFolder, sweep: Sweep) -> Design:
    """Return the design of the sweep in a run's file, with the names that records of older versions gave its trainings.

    Raises:
        InputError: a point is not a valid experiment, or the file is damaged.
        RunError: the records of the run cannot be read.
    """
    found = design_of(sweep)
    if found.labels is None:
        return found
    points, known = told_apart([*map(Describe(sweep, []), sweep.points())]), Trainings(run, set(found.arms or ()))
    older = {name: point.arm for point in points for name in _names(known, point, sweep.all_seeds())}
    return found.model_copy(update={"labels": {**older, **found.labels}, "document": digest(run.document())})


def _names(known: Trainings, point: TrialConfig, seeds: list[int]) -> set[str]:
    """Return the identities of an arm's trainings in the records of a run."""
    found = (known.find(point.identity, point.arm, seed) for seed in seeds)
    return {training.identity for training in found if training is not None and training.identity}


def method_of(sweep: Sweep) -> str:
    """Say how a sweep searches, what stops its trials and what ends it early: ``optuna (gp), asha, at most 12 h``."""
    parts = [_named(sweep.search, "sampler"), _named(sweep.scheduler, "pruner")]
    budget, target = sweep.budget or Budget(hours=None), sweep.stop
    parts += [f"at most {budget.hours:g} h"] if budget.hours is not None else []
    parts += [f"at most {budget.gpu_hours:g} GPU hours"] if budget.gpu_hours is not None else []
    parts += [f"until {sweep.metric} is {target.at:g}"] if target is not None else []
    return ", ".join(parts)


def _named(component: Component, key: str) -> str:
    """Return the name of a searcher or a scheduler with its sampler or pruner and the options of these."""
    given = component.options().get(key)
    if given is None:
        return short_name(component.name)
    if isinstance(given, str):
        return f"{component.name} ({short_name(given)})"
    named = [short_name(str(given[word])) for word in ("hub", "name") if word in given]
    options = [f"{word}: {value}" for word, value in given.items() if word not in ("hub", "name", "registry")]
    return f"{component.name} ({', '.join([*named, *options])})"
