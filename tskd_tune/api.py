"""The Python interface: check, train and sweep experiments, and write the report of a run.

The input of a function is the path of a YAML file, the name of a search space of the package (such as ``digits``),
plain data, or an `Experiment` or a `Sweep` that was read before. All errors are subclasses of
`tskd_tune.errors.TskdTuneError`: an `InputError` says, before any training, what is wrong with the input; a `RunError`
says what failed during a run.

>>> import tskd_tune
>>> found = tskd_tune.check("digits")
>>> len(found.arms) == found.points
True
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from tskd_tune import documents, local, single
from tskd_tune.checks import Checked, check_experiment, check_sweep
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.paths import whole_path
from tskd_tune.plain import Document
from tskd_tune.records.events import Event, Listener
from tskd_tune.records.origin import Origin
from tskd_tune.records.run_folder import STORAGE, RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps.schema import Sweep

__all__ = ["Event", "Experiment", "Listener", "RunFolder", "Sweep", "check", "report", "sweep", "train"]

File: TypeAlias = str | PathLike[str]
Plain: TypeAlias = Mapping[str, object]


def _unheard(event: Event) -> None:
    """Ignore an event."""


def sweep(
    given: Sweep | File | Plain,
    name: str | None = None,
    *,
    settings: Iterable[str] = (),
    storage: File = STORAGE,
    listener: Listener = _unheard,
    track: bool = True,
) -> RunFolder:
    """Run a sweep on this machine, or on the Ray cluster of the variable ``RAY_ADDRESS``.

    >>> import tskd_tune
    >>> folder = tskd_tune.sweep("digits", "first", settings=["seeds=[1, 2]"])  # doctest: +SKIP
    >>> [row.arm for row in folder.rows()]  # doctest: +SKIP
    ['baseline', 'baseline', 'kd', 'kd', ...]

    Args:
        given: the sweep: a YAML file, the name of a search space of the package, plain data, or a `Sweep`.
        name: the name of the run's folder; None: the file's name (or ``sweep``) and the time.
        settings: settings ``key.key=value``, as ``--set`` of the command line takes them.
        storage: the folder that runs are kept in.
        listener: is called with every `Event` of the run, once it is on disk.
        track: whether trials write Weights & Biases runs, offline without an API key.

    Returns:
        The run's folder, with its rows, its students and its report.

    Raises:
        InputError: the sweep is wrong, or the name is in use; nothing was started.
        RunError: something failed; finished runs are kept, and ``tskd-tune resume`` continues the sweep.
        KeyboardInterrupt: the sweep was interrupted and can be resumed.
    """
    from tskd_tune.sweeps.run import start  # this module imports Ray, which only `sweep` needs

    read = _sweep(given, settings)
    named = name or _named(given, "sweep")
    return start(read, named, _folder(storage), listener, track=track, origin=read.origin)


def train(
    given: Experiment | File | Plain,
    name: str | None = None,
    *,
    settings: Iterable[str] = (),
    storage: File = STORAGE,
    listener: Listener = _unheard,
    track: bool = True,
) -> RunFolder:
    """Train one experiment on this machine, without Ray.

    >>> import tskd_tune
    >>> tiny = {
    ...     "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 16, "validation": 8, "test": 8},
    ...     "student": "resnet8",
    ...     "review": None,
    ...     "training": {"epochs": 1, "lr": 0.01},
    ... }
    >>> folder = tskd_tune.train(tiny, "tiny", track=False)
    >>> [(row.arm, row.seed, row.epochs) for row in folder.rows()]
    [('resnet8', 1, 1)]
    >>> (folder.path / "report.html").exists()
    True

    Args:
        given: the experiment: a YAML file, plain data, or an `Experiment`.
        name: the name of the run's folder; None: the file's name (or ``experiment``) and the time.
        settings: settings ``key.key=value``, as ``--set`` of the command line takes them.
        storage: the folder that runs are kept in.
        listener: is called with every `Event` of the run, once it is on disk.
        track: whether the training writes a Weights & Biases run, offline without an API key.

    Returns:
        The run's folder, with its row, its student and its report.

    Raises:
        InputError: the experiment is wrong, or the name is in use; nothing was started.
        RunError: something failed, such as a loss that is not finite; the run can be resumed.
    """
    experiment = _experiment(given, settings)
    origin = Origin.of(Path(given)) if isinstance(given, str | PathLike) else None
    named = name or _named(given, "experiment")
    return local.start(experiment, named, _folder(storage), listener, track=track, origin=origin)


def check(given: Sweep | Experiment | File | Plain, *, settings: Iterable[str] = (), data: bool = False) -> Checked:
    """Check a sweep or an experiment without training it, and estimate runs, hours and disk.

    >>> import tskd_tune
    >>> found = tskd_tune.check("digits", settings=["seeds=[1, 2, 3]"])
    >>> found.kind, found.seeds, found.cost.runs
    ('sweep', [1, 2, 3], 18)

    Args:
        given: the sweep or the experiment: a YAML file, the name of a search space of the package, plain data, or an
            object that was read before.
        settings: settings ``key.key=value``, as ``--set`` of the command line takes them.
        data: whether all images of the task are read and decoded.

    Raises:
        InputError: with one sentence per mistake.
    """
    if isinstance(given, Experiment):
        return check_experiment(_experiment(given, settings), data=data)
    if isinstance(given, Sweep) or "experiment" in _plain(given):
        return check_sweep(_sweep(given, settings), data=data)
    return check_experiment(_experiment(given, settings), data=data)


def report(run: RunFolder | File, *, storage: File = STORAGE) -> Findings:
    """Rewrite the report of a run, ``report.html`` and ``report.md`` in the run's folder, and return the findings.

    >>> import tskd_tune
    >>> found = tskd_tune.report("first")  # doctest: +SKIP

    Args:
        run: the run's folder, or its name in ``storage``.
        storage: the folder that runs are kept in.

    Raises:
        InputError: there is no such run.
        RunError: the records cannot be read, or the folder cannot be written.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(fspath(run), _folder(storage))
    write_report(folder)
    return summary(folder)


def _sweep(given: Sweep | File | Plain, settings: Iterable[str]) -> Sweep:
    if isinstance(given, Sweep):
        settings = list(settings)
        return Sweep.read(documents.apply_settings(given.plain(), settings)) if settings else given
    if isinstance(given, Mapping):
        return Sweep.read(_with_settings(given, settings))
    return Sweep.load(Path(given), settings)


def _experiment(given: Experiment | File | Plain, settings: Iterable[str]) -> Experiment:
    if isinstance(given, Experiment):
        settings = list(settings)
        return single.parse(documents.apply_settings(given.plain(), settings)) if settings else given
    if isinstance(given, Mapping):
        return single.parse(_with_settings(given, settings))
    return single.read(Path(given), settings)


def _plain(given: File | Plain) -> Plain:
    return given if isinstance(given, Mapping) else documents.load(Path(given)).data


def _with_settings(given: Plain, settings: Iterable[str]) -> Document:
    """Return plain data merged over the data that it extends; paths are relative to the current folder."""
    return documents.apply_settings(documents.extended(given, Path.cwd()), settings)


def _named(given: object, kind: str) -> str:
    """Return the name of a run for which the caller gave no name."""
    stem = Path(given).stem if isinstance(given, str | PathLike) else kind
    return f"{stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _folder(storage: File) -> Path:
    try:
        return whole_path(Path(storage))
    except ValueError as error:
        raise InputError(f"storage: {error}") from error
