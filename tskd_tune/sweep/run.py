"""Runs a sweep on Ray Tune, and takes one up again where it was cut off."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Set
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.error import TuneError

from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import verify_data
from tskd_tune.paths import whole_path
from tskd_tune.records.breakage import reason_of
from tskd_tune.records.events import Event, Listener, data_event
from tskd_tune.records.origin import Origin
from tskd_tune.records.run_folder import STORAGE, RunFolder
from tskd_tune.records.teaching import noted
from tskd_tune.records.tracking import Connection, Place, run_key
from tskd_tune.records.wandb_rules import refuse as refuse_names
from tskd_tune.reports.findings.importance import JOURNAL
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweep.checking import refuse
from tskd_tune.sweep.extension import Addition, extended
from tskd_tune.sweep.interim import look_event, stages, take
from tskd_tune.sweep.known import known_trials, numbers
from tskd_tune.sweep.ray_address import named_cluster
from tskd_tune.sweep.ray_session import session
from tskd_tune.sweep.recorder import Recorder
from tskd_tune.sweep.resources import capacity, needed, refuse_unfit
from tskd_tune.sweep.saved import SAVED, saved_state
from tskd_tune.sweep.schema import Sweep
from tskd_tune.sweep.searchers import ListedPoints
from tskd_tune.sweep.snapshot import newest
from tskd_tune.sweep.space import Point
from tskd_tune.sweep.teachers import distinct, key_of, prepare
from tskd_tune.sweep.trainable import Shipped, SweepTrial, TrialConfig

# The name of Ray Tune's experiment, and so of the folder of the trials in a run's folder.
TRIALS = "trials"


def run(
    sweep: Sweep,
    name: str | None = None,
    *,
    storage: str | Path = STORAGE,
    listener: Listener = lambda event: None,
    track: bool = True,
) -> RunFolder:
    """Check and run a sweep under a name, by default the current time; `start` has the errors.

    Args:
        sweep: what to run.
        name: the name of the run's folder; None for ``sweep-<time>``.
        storage: the folder that runs are kept in.
        listener: is called with every event.
        track: whether trials keep W&B runs.
    """
    try:
        where = whole_path(storage)
    except ValueError as error:
        raise InputError(f"storage: {error}") from error
    name = name or f"sweep-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    return start(sweep, name, where, listener, track=track, origin=sweep.origin)


def start(
    sweep: Sweep,
    name: str,
    storage: Path,
    listener: Listener,
    *,
    track: bool = True,
    confirms: str | None = None,
    origin: Origin | None = None,
) -> RunFolder:
    """Check a sweep, run it whole and write its report.

    Args:
        sweep: what to run.
        name: the run's name, new in ``storage``.
        storage: the folder that runs are kept in.
        listener: hears what happens.
        track: whether trials keep W&B runs.
        confirms: the run of the search whose winners this one trains.
        origin: the file and its question, for the report.

    Raises:
        InputError: the sweep is wrong or the name is taken; nothing was started.
        RunError: something failed; what was finished is kept, and the run can be resumed.
        KeyboardInterrupt: the sweep was interrupted, and can be resumed.
    """
    named_cluster()  # at once where nothing answers there
    refuse(sweep)
    refuse_names(_place(sweep), track=track)
    sweep = sweep.resolved()
    _read_data(sweep, listener)
    facts: Any = {"expected": _expected(sweep), "confirms": confirms, "origin": origin}
    path = RunFolder.free(storage.absolute(), name)
    folder: RunFolder | None = None
    try:
        with ExitStack() as until_reported:
            with session(path):  # before the folder is made, so that none is left where Ray does not start
                refuse_unfit(sweep, listener)
                folder = RunFolder.create(path.parent, name, "sweep", sweep.plain(), **facts)
                until_reported.enter_context(folder.alone())
                cut_off = _trained(sweep, folder, listener, track=track)
            return _reported(folder, cut_off)
    except InputError:
        if folder is not None:
            folder.discard()  # found before anything was trained; the name is free again
        raise


def resume(folder: RunFolder, listener: Listener, *, track: bool = True) -> RunFolder:
    """Finish a run that was cut off; trials that broke are tried again, finished ones are left alone.

    Raises:
        InputError: the run is no sweep, or another process trains it.
        RunError: as `start`.
    """
    folder = _sweep_folder(folder)
    with folder.alone():
        sweep = Sweep.read(folder.document())
        refuse_names(_place(sweep), track=track)
        _read_data(sweep, listener)
        return _run(sweep, folder, listener, track=track)


def extend(folder: RunFolder, addition: Addition, listener: Listener, *, track: bool = True) -> RunFolder:
    """Add seeds or arms to a run of a grid, and train what is missing; `resume` goes on where it is cut off.

    Args:
        folder: the run.
        addition: what is added.
        listener: hears what happens.
        track: whether trials keep W&B runs.

    Raises:
        InputError: the run is no sweep that can be extended, another process trains it, or nothing new was given.
        RunError: as `start`.
    """
    folder = _sweep_folder(folder)
    with folder.alone():
        sweep = extended(Sweep.read(folder.document()), addition)
        refuse(sweep)
        refuse_names(_place(sweep), track=track)
        _read_data(sweep, listener)
        # A crash between the two leaves a run that is not whole, which `resume` puts in order.
        folder.expect(_expected(sweep))
        folder.replace_document(sweep.plain())
        return _run(sweep, folder, listener, track=track)


def _read_data(sweep: Sweep, listener: Listener) -> None:
    """Read all data before anything is trained, and tell what is odd about it."""
    for oddity in verify_data(sweep.experiment_at(point) for point in sweep.space().corners()):
        listener(data_event(oddity))


def _sweep_folder(folder: RunFolder) -> RunFolder:
    if folder.state.kind != "sweep":
        raise InputError(f"{folder.path}: is not a sweep but a single training; `tskd-tune resume` knows both")
    # Ray takes a relative path for an address without a scheme.
    return RunFolder(folder.path.absolute(), folder.state)


def _run(sweep: Sweep, folder: RunFolder, listener: Listener, *, track: bool) -> RunFolder:
    with session(folder.path):
        refuse_unfit(sweep, listener)
        cut_off = _trained(sweep, folder, listener, track=track)
    return _reported(folder, cut_off)


def _trained(sweep: Sweep, folder: RunFolder, listener: Listener, *, track: bool) -> bool:
    """Train what is missing, and tell whether it was cut off."""
    listener = noted(folder.store, listener)
    with Recorder.recording(folder, listener):
        shipped = Shipped(
            sweep=folder.name,
            folder=folder.path if track else None,
            metric=sweep.search.metric,
            mode=sweep.search.mode,
            teachers=prepare(_teachers(sweep), needed(sweep), listener),
            place=_place(sweep),
            key=run_key(folder.path, folder.name),
            connection=_connection() if track else None,
            trials=folder.path / TRIALS,
        )
        trainable = tune.with_resources(tune.with_parameters(SweepTrial, shipped=shipped), needed(sweep))
        ends = _ends_of_search if sweep.is_judged else _ends_of_grid
        return ends(sweep, folder, trainable, listener)


def _reported(folder: RunFolder, cut_off: bool) -> RunFolder:
    write_report(folder)
    if cut_off:
        raise KeyboardInterrupt
    _raise_what_is_missing(folder)
    return folder


def _place(sweep: Sweep) -> Place:
    return Place(**sweep.wandb.plain())


def _connection() -> Connection:
    """Look at W&B's server once for all trials, and say where they stay offline although a server was asked for."""
    found = Connection.probe()
    if found.warning:
        warnings.warn(f"W&B: {found.warning}", stacklevel=2)
    return found


def _ends_of_search(sweep: Sweep, folder: RunFolder, trainable: Any, listener: Listener) -> bool:
    """Train what a searcher or a scheduler judges, and tell whether it was cut off.

    A run whose trials broke, or of which Tune's own files are damaged, is taken up from its own records: the searcher
    is told anew what has ended, and what has not is first in line.
    """
    known = known_trials(folder, sweep.all_seeds())
    describe = partial(_config, sweep.plain(), sweep.all_seeds())
    searcher, trials = sweep.searcher_for(sweep.space(), describe, folder.path / JOURNAL)
    left = trials - sum(trial.end is not None for trial in known.values())
    if not left:
        return False
    broke = any(row.broke for row in folder.rows())
    restored = None if broke else _restored(folder, trainable, known.keys(), listener)
    if restored is not None:
        return _cut_off(_fitted(restored, folder))
    searcher.take_up(known)
    return _cut_off(_fitted(_tuner(sweep, folder, trainable, searcher, left), folder))


def _restored(folder: RunFolder, trainable: Any, known: Set[int], listener: Listener) -> tune.Tuner | None:
    """Return the tuner of an earlier process; None where there was none, it knew less, or its files are damaged."""
    trials = folder.path / TRIALS
    if not any(trials.glob("*.pkl")) and not any(trials.glob("experiment_state-*.json")):
        return None
    try:
        there = newest(trials)
        if there is None:
            raise RunError("Ray Tune's list of trials is gone")
        if known - {trial["config"]["number"] for trial in there}:
            return None  # its process took up the run from its records, as this one does
        saved_state(max(trials.glob(SAVED), default=trials / SAVED))
        return tune.Tuner.restore(str(trials), trainable, resume_unfinished=True, resume_errored=True)
    except Exception as error:  # whatever a damaged pickle makes of itself
        told = f"{trials}: Ray Tune's files are damaged ({reason_of(error)}); the search goes on from the run's rows"
        listener(Event("note", "", reason=told))
        return None


def _ends_of_grid(sweep: Sweep, folder: RunFolder, trainable: Any, listener: Listener) -> bool:
    """Train what has not ended, one portion of seeds after the other, and tell whether it was cut off."""
    folder.expect(_expected(sweep))
    for at, seeds in zip(sweep.compare.looks or [0], stages(sweep), strict=True):
        missing = _missing(sweep, folder, seeds)
        if missing:
            tuner = _tuner(sweep, folder, trainable, ListedPoints(missing), len(missing))
            if _cut_off(_fitted(tuner, folder)):
                return True
            if _missing(sweep, folder, seeds):  # they broke; a look waits for the resume that trains them again
                break
        if not at:
            continue
        look = take(folder, at)
        listener(look_event(look))
        if look["stop"]:
            folder.expect(at * len(sweep.space().grid()))
            break
    return False


def _fitted(tuner: tune.Tuner, folder: RunFolder) -> Any:
    try:
        return tuner.fit()
    except TuneError as error:
        raise RunError(f"{folder.path}: the sweep broke off ({reason_of(error)}); resume it") from error


def _cut_off(results: Any) -> bool:
    """Tell whether a tuner was cut off before all of its trials ended."""
    return bool(results.num_terminated + results.num_errors < len(results))


def _missing(sweep: Sweep, folder: RunFolder, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the configs of the trainings that have not ended, a trial a seed of a point.

    They go seed by seed, so that the arms can be compared early. One that began keeps its number, and so its folder
    with its checkpoints; the others are numbered after the trials that left something.
    """
    ended = {(row.arm, row.seed) for row in folder.rows() if row.ended}
    began = numbers(folder)
    free = count(1 + max((int(run) for run in folder.trials() if run.isdecimal()), default=-1))
    plain, points = sweep.plain(), sweep.space().grid()
    wanted = [(seed, point) for seed in seeds for point in points if (point.label, seed) not in ended]
    return [
        {**_config(plain, [seed], point), "number": number}
        for seed, point in wanted
        for number in [began[point.label, seed] if (point.label, seed) in began else next(free)]
    ]


def _tuner(sweep: Sweep, folder: RunFolder, trainable: Any, searcher: Any, trials: int) -> tune.Tuner:
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=sweep.scheduler_for(sweep.space()),
            num_samples=trials,
            max_concurrent_trials=sweep.resources.concurrent or capacity(sweep),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: TrialConfig(**trial.config).run,
        ),
        run_config=tune.RunConfig(
            name=TRIALS,
            storage_path=str(folder.path),
            verbose=0,
            callbacks=[Recorder()],
            failure_config=tune.FailureConfig(max_failures=sweep.max_failures),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_frequency=1, checkpoint_at_end=True),
        ),
    )


def _config(document: dict[str, Any], seeds: list[int], point: Point) -> dict[str, Any]:
    """Return the config of a trial but for its number; the sweep is plain data, since Tune pickles what calls this."""
    experiment = Sweep.read(document).experiment_at(point)
    plain = {key: value for key, value in experiment.plain().items() if key != "seed"}
    return {
        "arm": point.label,
        "point": point.values,
        "experiment": plain,
        "seeds": seeds,
        "teacher": key_of(experiment),
    }


def _expected(sweep: Sweep) -> int:
    """Return the number of rows of the whole run; where it looks, the most that they can be."""
    points = len(sweep.space().grid()) if sweep.search.name == "grid" else sweep.search.options()["trials"]
    return int(points) * (sweep.compare.looks or [len(sweep.all_seeds())])[-1]


def _teachers(sweep: Sweep) -> dict[str, Experiment]:
    """Return the teachers of all branches; one that depends on a drawn number is left to its trial."""
    return distinct(sweep.experiment_at(point) for point in sweep.space().corners())


def _raise_what_is_missing(folder: RunFolder) -> None:
    """Raise what kept a run from being whole, after everything that it found was written."""
    rows = folder.rows()
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        broke = sum(row.broke for row in failed)
        again = f" {broke} of them broke and can be trained again: tskd-tune resume {folder.path}" if broke else ""
        told = [f"{row.arm}, seed {row.seed}: {row.reason}" for row in failed]
        head = f"{folder.path}: {len(failed)} failed; `tskd-tune report {folder.path}` shows them.{again}"
        raise RunError("\n".join([head, *told]))
    if folder.state.expected is not None and len(rows) < folder.state.expected:
        raise KeyboardInterrupt
