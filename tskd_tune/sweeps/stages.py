"""Trains the missing trainings of a run: a grid by portions of seeds, a search trial by trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Listener
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.importance import JOURNAL
from tskd_tune.sweeps.declared.configs import Describe
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.interim import analyses, analyze, portions
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.scheduling.schedulers import Resumable
from tskd_tune.sweeps.searching.known import Trainings, known_trials
from tskd_tune.sweeps.searching.listed_points import ListedPoints
from tskd_tune.sweeps.searching.run_searcher import RunSearcher
from tskd_tune.sweeps.space.distinct import told_apart
from tskd_tune.sweeps.tuning import Tuning


def train(tuning: Tuning, listener: Listener) -> bool:
    """Train the missing trainings of a run. Return False if a signal cut the run off, and otherwise True.

    Raises:
        RunError: Ray Tune ended with an error, or a record cannot be written.
        InputError: a search was cut off, and its searcher cannot learn the earlier results.
    """
    return _train_search(tuning) if tuning.sweep.is_judged else _train_grid(tuning, listener)


def expected_rows(sweep: Sweep) -> int:
    """Return the number of rows of the whole run; with interim analyses, the largest possible number."""
    points = len(sweep.points()) if sweep.is_exact else int(sweep.search.options()["trials"])
    return points * (sweep.compare.interim or [len(sweep.all_seeds())])[-1]


def missing(sweep: Sweep, folder: RunFolder, seeds: Sequence[int]) -> list[TrialConfig]:
    """Return the configs of the trainings of a grid that have not ended, one trial per seed and point.

    Under several teachers an arm has a point for each of them.

    All points come with the first seed, then with the next seed, so that arms can be compared early. A training that
    began keeps its number, and so its folder with its checkpoints. Other trainings get numbers above all folders.
    """
    points = told_apart([*map(Describe(sweep, seeds), sweep.points())])
    began, free = Trainings(folder, {point.arm for point in points}), count(1 + highest_number(folder))
    configs: list[TrialConfig] = []
    for seed in seeds:
        for point in points:
            training = began.find(point.identity, point.arm, seed)
            if training is None or not training.ended:
                known, named = (training.number, training.identity) if training else (None, "")
                number, identity = next(free) if known is None else known, named or point.identity
                configs.append(replace(point, seeds=[seed], number=number, identity=identity))
    return configs


def left(sweep: Sweep, folder: RunFolder) -> list[TrialConfig]:
    """Return the configs of the trainings of a grid that a resume would train, by the sweep as it is now.

    After an interim analysis that stopped the sweep no further seed is trained.
    """
    taken, found = analyses(folder), list[TrialConfig]()
    for at, seeds in zip(sweep.compare.interim or [0], portions(sweep), strict=True):
        found += missing(sweep, folder, seeds)
        if at in taken and taken[at].stop:
            break
    return found


def highest_number(folder: RunFolder) -> int:
    """Return the highest number of a trial that began or left a checkpoint; -1 if there is none.

    Ray Tune makes the folder of a trial before the trial begins, so an empty folder does not count.
    """
    begun = {*folder.begun(), *(row.run for row in folder.rows())}
    kept = {run for run in folder.trials() if any(folder.trial_path(run).glob("checkpoint_*"))}
    return max((int(run) for run in begun | kept if run.isdecimal()), default=-1)


def _train_grid(tuning: Tuning, listener: Listener) -> bool:
    sweep, folder = tuning.sweep, tuning.folder
    folder.expect(expected_rows(sweep))
    for at, seeds in zip(sweep.compare.interim or [0], portions(sweep), strict=True):
        if tuning.limits.over():
            break
        if configs := missing(sweep, folder, seeds):
            bundles = tuning.bundles(configs, listener)
            if not tuning.train(ListedPoints(bundles), sweep.scheduler_for(sweep.space()), len(bundles)):
                return False
            if missing(sweep, folder, seeds):  # some broke; `resume` trains them again, then analyzes
                break
        if not at:
            continue
        analysis = analyze(folder, at)
        listener(analysis.event())
        if analysis.stop:
            folder.expect(at * len(sweep.points()))
            break
    return True


def _train_search(tuning: Tuning) -> bool:
    """Train the trials that a searcher suggests or a scheduler compares.

    A resumed run goes on from its own records: searcher and scheduler get the results of earlier trials, and the trials
    that have not ended are trained first.
    """
    sweep, folder = tuning.sweep, tuning.folder
    known = known_trials(folder, sweep.all_seeds())
    searcher, trials = sweep.searcher_for(sweep.space(), Describe(sweep, sweep.all_seeds()), folder.path / JOURNAL)
    left = trials - sum(trial.end is not None for trial in known.values())
    folder.expect(expected_rows(sweep))
    tuning.limits.learn(known)
    if not left or tuning.limits.over():
        _expect_what_there_is(tuning)
        return True
    scheduler = sweep.scheduler_for(sweep.space())
    if isinstance(searcher, RunSearcher):
        searcher.take_up(known, highest=highest_number(folder))
    elif known:
        raise InputError(
            f"search: the searcher '{sweep.search.name}' cannot go on with a run that was cut off; make its class a"
            " tskd_tune.sweeps.searching.run_searcher.RunSearcher with a method take_up, or start a new run"
        )
    if isinstance(scheduler, Resumable):
        scheduler.take_up(known)
    whole = tuning.train(searcher, scheduler, left)
    begun = len(known_trials(folder, sweep.all_seeds()))
    if whole and begun < trials and not tuning.limits.reason:  # the searcher found no further experiment in the space
        folder.expect(begun * len(sweep.all_seeds()))
    _expect_what_there_is(tuning)
    return whole


def _expect_what_there_is(tuning: Tuning) -> None:
    """Expect no more rows than there are, if a trial has reached the target."""
    if tuning.limits.at_target:
        tuning.folder.expect(len(tuning.folder.rows()))
