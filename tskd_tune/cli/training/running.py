"""The commands that train: ``train``, ``sweep``, ``extend``, ``confirm`` and ``resume``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from tskd_tune import documents, local, single
from tskd_tune.cli.reading.edited_design import trained
from tskd_tune.cli.reading.results import show_results
from tskd_tune.cli.terminal import interrupted, say, warn
from tskd_tune.cli.training.counts import epoch_count, point_count, runs_text, teachers_text
from tskd_tune.cli.training.finishing import ended, is_finished, lacks_points, say_finished
from tskd_tune.cli.training.progress import Progress
from tskd_tune.errors import InputError, RunError, TskdTuneError, did_you_mean
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.data import summaries
from tskd_tune.files import fullest, is_full
from tskd_tune.paths import StoragePlace, in_shell
from tskd_tune.records.entries.events import Event
from tskd_tune.records.entries.names import refuse_name
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.entries.teacher_names import under
from tskd_tune.records.protocols.confirmations import ledger
from tskd_tune.records.runs.finding import has_run
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.leftovers import cleared
from tskd_tune.sweeps.declared.checking import refuse
from tskd_tune.sweeps.declared.design import method_of
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.evidence.confirmation import PAPER, confirmation
from tskd_tune.sweeps.evidence.extension import Addition, extended_run
from tskd_tune.sweeps.evidence.protocol import refuse_seeds_of_the_search
from tskd_tune.sweeps.space.controls import CONTROLS
from tskd_tune.sweeps.space.seeds import seeds_in
from tskd_tune.training.teachers import cache_folder
from tskd_tune.words import count

Work = Callable[[Progress], RunFolder]


def train(file: Path, name: str | None, storage: StoragePlace, settings: Sequence[str], *, track: bool) -> None:
    """Train one experiment and show the result.

    Raises:
        InputError: the experiment is wrong, or a run with this name exists.
        RunError: the run failed.
    """
    name = name_of(file, name)
    experiment = single.read_checked(file, settings)
    plan = experiment.plan()
    reviews = 0 if plan is None else len(plan.review_nodes)
    length = f"{count(experiment.training.epochs, 'epoch')}, {count(reviews, 'review')}"
    say(f"{name}: {single.label(experiment)}, seed {experiment.seed}, {length}")
    _say_data([experiment])
    warn(experiment.warnings())

    def work(progress: Progress) -> RunFolder:
        origin = Origin.of(file)
        return local.start(experiment, name, storage, lambda event: _hear(progress, event), track=track, origin=origin)

    _work(work, Progress(1, experiment.training.epochs), storage.absolute() / name)


def sweep(file: Path, name: str | None, storage: StoragePlace, settings: Sequence[str], *, track: bool) -> None:
    """Run a sweep and show the results.

    Raises:
        InputError: the sweep is wrong, or a run with this name exists.
        RunError: the run failed.
    """
    name = name_of(file, name)
    given = Sweep.load(file, settings)
    run_sweep(given, name, storage, given.origin, track=track)


def run_sweep(given: Sweep, name: str, storage: StoragePlace, origin: Origin, *, track: bool) -> None:
    """Run a sweep that was read, under a name, and show the results.

    Raises:
        InputError: the sweep is wrong, or a run with this name exists.
        RunError: the run failed.
    """
    points, seeds = point_count(given), len(given.all_seeds())
    say(f"{name}: {runs_text(points, seeds)}{teachers_text(given)}, {method_of(given)}")
    for line in given.derived.left_out:
        say(line)
    try:
        _say_data(given.experiment_at(point) for point in given.space().corners())
    except InputError:
        refuse(given)  # names all mistakes, each with its place
        raise

    def work(progress: Progress) -> RunFolder:
        from tskd_tune.sweeps.run import start

        return start(given, name, storage, lambda event: _hear(progress, event), track=track, origin=origin)

    _work(work, Progress(points * seeds, epoch_count(given)), storage.absolute() / name)


def resume(run: str, storage: StoragePlace, *, track: bool | None, hours: float | None = None) -> None:
    """Finish a run of any kind; a finished run is not changed.

    Args:
        run: the run's path, or its name in ``storage``.
        storage: the folder of the runs.
        track: whether trainings are tracked by W&B; None: as the run began.
        hours: how long a sweep may go on; None: as its file says.

    Raises:
        InputError: there is no such run, or a single training was given hours.
        RunError: the run failed.
    """
    folder = RunFolder.open(run, storage)
    if is_finished(folder):
        say_finished(folder)
        return
    if folder.state.kind == "train":
        if hours is not None:
            raise InputError("--hours: limits a sweep, and this run is a single training; leave --hours out")
        _resume_training(folder, track)
    else:
        _resume_sweep(folder, track, hours)


def extend(
    run: str, storage: StoragePlace, *, seeds: str | None, controls: str | None, points: Path | None, track: bool | None
) -> None:
    """Add seeds, control arms or points to a sweep that was run, and show the results.

    Raises:
        InputError: there is no such run, the run cannot be extended, or nothing new was given.
        RunError: the run failed.
    """
    folder = RunFolder.open(run, storage)
    if folder.state.kind != "sweep":
        raise InputError(
            f"{folder.place}: is a single training, to which no seeds and arms can be added; give the run of a sweep"
        )
    addition = Addition(
        seeds=seeds_in(seeds) if seeds else [],
        controls=_controls(controls),
        points=None if points is None else Sweep.load(points),
    )
    after = extended_run(folder, addition)
    refuse_seeds_of_the_search(folder, addition.seeds)
    points_then, trainings = point_count(after), point_count(after) * len(after.all_seeds())
    finished, done = ended(folder), sum(len(folder.history(run)) for run in folder.trials())
    runs = f"{runs_text(points_then, len(after.all_seeds()))}{teachers_text(after)}"
    say(f"{folder.name}: {runs}, {finished} are finished")

    def work(progress: Progress) -> RunFolder:
        from tskd_tune.sweeps.run import extend as go_on

        return go_on(folder, addition, lambda event: _hear(progress, event), track=track)

    _work(work, Progress(trainings, epoch_count(after), finished=finished, done=done), folder.place)


def confirm(
    run: str,
    storage: StoragePlace,
    settings: Sequence[str],
    *,
    seeds: str,
    top: int,
    against: str,
    controls: str | None,
    name: str | None,
    track: bool | None,
) -> None:
    """Train the winners of a search with new seeds on the whole training set, and show the results.

    Raises:
        InputError: there is no such run, the run has too few winners, or the search used one of the seeds.
        RunError: the run failed.
    """
    folder = RunFolder.open(run, storage)
    chosen = confirmation(folder, seeds_in(seeds), top=top, against=against, controls=_controls(controls))
    given = Sweep.read(documents.apply_settings(chosen.plain(), settings))
    if given.all_seeds() != chosen.all_seeds():
        raise InputError("--set seeds: give the seeds of a confirmation with --seeds, which checks that they are fresh")
    name = name_of(Path(f"{folder.name}-confirm"), name)
    arms, trainings = [point.label for point in given.space().grid()], point_count(given) * len(given.all_seeds())
    design = f"{count(len(given.all_seeds()), 'seed')}, {count(trainings, 'run')}"
    say(f"{name}: confirms {folder.name}: {'; '.join(arms)}; {design}")
    for line in given.derived.left_out:
        say(line)
    _say_data(given.experiment_at(point) for point in given.space().grid())
    if PAPER not in arms:
        say("the paper's setting is left out: it is a winner itself, or its first review would come too late")
    expected, rows = folder.state.expected, ended(folder)
    if expected is not None and rows < expected:
        warn([f"{folder.name} has {rows} of its {expected} runs: its winner may still change"])
    if before := [one.run for one in ledger(folder).confirmations]:
        warn([f"{folder.name} was confirmed before, by {', '.join(before)}; the report says so, report all of them"])

    def work(progress: Progress) -> RunFolder:
        from tskd_tune.sweeps.run import start

        listener, tracked = partial(_hear, progress), folder.state.tracked if track is None else track
        return start(given, name, storage, listener, track=tracked, confirms=folder, origin=folder.origin)

    _work(work, Progress(trainings, epoch_count(given)), storage.absolute() / name)


def _controls(names: str | None) -> bool | list[str] | None:
    """Return the value for the sweep's key ``controls`` from ``all`` or from names separated by commas.

    Raises:
        InputError: a name is that of no control.
    """
    given = [] if names in (None, "all") else [name.strip() for name in str(names).split(",")]
    for name in given:
        if name not in CONTROLS:
            raise InputError(f"--controls: '{name}' is no control{did_you_mean(name, CONTROLS)}")
    return None if names is None else given or True


def _resume_training(folder: RunFolder, track: bool | None) -> None:
    experiment = Experiment.read(folder.document())
    done = len(folder.history(local.RUN))
    say(f"{folder.name}: going on after {done} of {experiment.training.epochs} epochs")

    def work(progress: Progress) -> RunFolder:
        return local.resume(folder, lambda event: _hear(progress, event), track=track)

    _work(work, Progress(1, experiment.training.epochs, done=done), folder.place)


def _resume_sweep(folder: RunFolder, track: bool | None, hours: float | None) -> None:
    given = sweep_of(folder)
    finished, done = trained(folder, given)
    known = None if lacks_points(folder) else folder.state.expected
    trainings = known or point_count(given) * len(given.all_seeds())
    say(f"{folder.name}: going on after {finished} of {trainings} trainings")

    def work(progress: Progress) -> RunFolder:
        from tskd_tune.sweeps.run import resume as go_on

        return go_on(folder, lambda event: _hear(progress, event), track=track, hours=hours)

    _work(work, Progress(trainings, epoch_count(given), finished=finished, done=done), folder.place)


def _say_data(experiments: Iterable[Experiment]) -> None:
    """Say how the data of each task are understood, before all data are read."""
    for data in summaries(experiments):
        for line in data.lines():
            say(line)
    say("all data is read before anything is trained; decoded images are kept")


def _work(work: Work, progress: Progress, path: StoragePlace) -> None:
    """Do the work and show its progress, then show the results, also after a failure."""
    with cleared(), _said_of_a_full_disk(path):
        try:
            with progress:
                folder = work(progress)
        except KeyboardInterrupt:
            raise interrupted(path) from None
        except RunError:
            with suppress(TskdTuneError):
                if (folder := RunFolder.open(path)).rows():
                    show_results(folder)
            raise
        show_results(folder)


@contextmanager
def _said_of_a_full_disk(path: StoragePlace) -> Iterator[None]:
    """Replace any error that a full disk causes with a message that the disk is full."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        here = [path] if isinstance(path, Path) else []
        full = fullest([*here, cache_folder(), Path(tempfile.gettempdir())])
        begun = has_run(path)
        again = f"tskd-tune resume {in_shell(path)}" if begun else "the same command again"
        # A traceback of Ray adds nothing to the last sentence.
        told = isinstance(error, RunError) and "Traceback" not in str(error)
        said = str(error) if told else f"{path}: the run broke off"
        raise RunError(f"{said}\nthe disk of {full} is full: free space there, then: {again}") from error


def _hear(progress: Progress, event: Event) -> None:
    if event.what == "teacher":
        progress.teacher(event.arm, event.epoch, event.epochs)
    elif event.what == "waiting":
        progress.waiting(event.arm)
    elif event.what == "ready":
        progress.ready(event.arm, event.metrics or {}, event.reason or "")
    elif event.what == "epoch":
        progress.epoch(event.run or event.arm, event.seed, event.epoch)
    elif event.what == "finished":
        progress.finished(
            _named(event),
            event.seed,
            event.epoch,
            event.epochs,
            metrics=event.metrics or {},
            measures=[] if event.row is None else event.row.measures,
            reason=event.reason,
        )
    elif event.what in ("interim", "note", "machines"):
        progress.tell(event.reason or "")
    elif event.what == "data":
        progress.warn(event.reason or "")
    elif event.what == "failed":  # the command's last sentence reports a teacher that broke
        progress.failed(_named(event), event.seed, event.epoch, event.epochs, event.reason)


def _named(event: Event) -> str:
    return event.arm if event.row is None else f"{event.arm}{under(event.row.point)}"


def name_of(file: Path, given: str | None) -> str:
    """Return the run's name: the given name, otherwise the file's name and the time.

    Raises:
        InputError: no run can have the name.
    """
    name = f"{file.stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}" if given is None else given
    refuse_name(name)
    return name
