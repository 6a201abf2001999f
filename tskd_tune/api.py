"""The Python interface: check, train and sweep experiments, write the report of a run, and do studies.

The input of a function is the path of a YAML file, the name of a search space of the package (such as ``digits``),
plain data, or an `Experiment` or a `Sweep` that was read before. Plain data may hold paths and tuples. All errors are
subclasses of `tskd_tune.errors.TskdTuneError`: an `InputError` says, before any training, what is wrong with the input;
a `RunError` says what failed during a run.

>>> import tskd_tune
>>> found = tskd_tune.check("digits")
>>> len(found.arms) == found.points
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from tskd_tune import documents, local, outside, single
from tskd_tune.checks import Checked, check_experiment, check_sweep
from tskd_tune.errors import InputError, RunError, TskdTuneError, reason, shown
from tskd_tune.experiment import Experiment
from tskd_tune.paths import StoragePlace, storage_place
from tskd_tune.plain import Document
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.records.entries.origin import Origin
from tskd_tune.records.runs.run_folder import STORAGE, RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.page.report import write_report
from tskd_tune.studies.found import StudyFile
from tskd_tune.sweeps.declared.schema import Sweep

__all__ = ["Event", "Experiment", "Listener", "RunFolder", "Sweep", "check", "report", "study", "sweep", "train"]

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
    address: str | None = None,
) -> RunFolder:
    """Run a sweep on this machine, or on the Ray cluster at ``address`` or of the variable ``RAY_ADDRESS``.

    >>> import tskd_tune
    >>> folder = tskd_tune.sweep("digits", "first", settings=["seeds=[1, 2]"])  # doctest: +SKIP
    >>> [row.arm for row in folder.rows()]  # doctest: +SKIP
    ['baseline', 'baseline', 'kd', 'kd', ...]

    Args:
        given: the sweep: a YAML file, the name of a search space of the package, plain data, or a `Sweep`.
        name: the name of the run's folder; None: the file's name (or ``sweep``) and the time.
        settings: settings ``key.key=value``, as ``--set`` of the command line takes them.
        storage: the folder that runs are kept in, or its address on an object storage (``s3://bucket/runs``).
        listener: is called with every `Event` of the run, once it is on disk.
        track: whether trials write Weights & Biases runs, offline without an API key.
        address: the cluster to join, in place of ``RAY_ADDRESS``: ``HOST:PORT`` of its head, ``auto``, or ``local``
            for none.

    Returns:
        The run's folder, with its rows, its students and its report.

    Raises:
        InputError: the sweep is wrong, or the name is in use; nothing was started.
        RunError: something failed; finished runs are kept, and ``tskd-tune resume`` continues the sweep.
        KeyboardInterrupt: the sweep was interrupted and can be resumed.
    """
    from tskd_tune.sweeps.on_ray.ray_address import addressed
    from tskd_tune.sweeps.run import start  # this module imports Ray, which only `sweep` needs

    outside.renew()
    read = _sweep(given, settings)
    named = _named(name, given, "sweep")
    with addressed(address):
        return start(read, named, _folder(storage), _heard(listener), track=track, origin=read.origin)


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
        storage: the folder that runs are kept in, or its address on an object storage (``s3://bucket/runs``).
        listener: is called with every `Event` of the run, once it is on disk.
        track: whether the training writes a Weights & Biases run, offline without an API key.

    Returns:
        The run's folder, with its row, its student and its report.

    Raises:
        InputError: the experiment is wrong, or the name is in use; nothing was started.
        RunError: something failed, such as a loss that is not finite; the run can be resumed.
    """
    outside.renew()
    experiment = _experiment(given, settings)
    origin = Origin.of(Path(given)) if isinstance(given, str | PathLike) else None
    named = _named(name, given, "experiment")
    return local.start(experiment, named, _folder(storage), _heard(listener), track=track, origin=origin)


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
    outside.renew()
    if isinstance(given, Experiment):
        return check_experiment(_experiment(given, settings), data=data)
    if isinstance(given, Sweep) or "experiment" in _plain(given):
        return check_sweep(_sweep(given, settings), data=data)
    return check_experiment(_experiment(given, settings), data=data)


def report(run: RunFolder | File, *, storage: File = STORAGE, settings: Iterable[str] = ()) -> Findings:
    """Rewrite the report of a run, ``report.html`` and ``report.md`` in the run's folder, and return the findings.

    >>> import tskd_tune
    >>> found = tskd_tune.report("first")  # doctest: +SKIP

    Args:
        run: the run's folder or address, or its name in ``storage``.
        storage: the folder that runs are kept in, or its address on an object storage (``s3://bucket/runs``).
        settings: keys of ``compare`` in place of the run's own, ``compare.key=value``. Then the verdicts are
            exploratory, and no file is written.

    Raises:
        InputError: there is no such run, or a setting is wrong.
        RunError: the records cannot be read, or the folder cannot be written.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(_path(run, "a run"), _folder(storage))
    given = _settings(settings)
    if not given:
        write_report(folder)
    return summary(folder, given)


def study(
    name: str,
    output: File | None = None,
    *,
    quick: bool = False,
    settings: Iterable[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> StudyFile:
    """Do a study of the method's claims, or what is left of it, and write its page and its numbers.

    >>> import tskd_tune
    >>> whole = tskd_tune.study("temporal", quick=True)  # doctest: +SKIP
    >>> whole.found.sentences[0]  # doctest: +SKIP

    Args:
        name: the name of the study; ``tskd-tune study`` lists them.
        output: the folder of the study; None: ``studies/NAME``, or ``studies/NAME-quick``.
        quick: whether the options of ``--quick`` are used in place of the defaults.
        settings: options of the study, ``option=value``, as ``--set`` of the command line takes them.
        tell: is called with a sentence on the progress.

    Returns:
        What was found, with the command, the options and the versions.

    Raises:
        InputError: the name, an option or the folder is wrong; nothing was started.
        RunError: something failed; what is finished is kept, and the same call goes on.
        KeyboardInterrupt: the study was interrupted, and the same call goes on.
    """
    from tskd_tune.studies.work import default_folder, do_study

    if not isinstance(name, str):
        raise InputError(f"study: the name must be text, got {shown(name)}; `tskd-tune study` lists the studies")
    folder = default_folder(name, quick=quick) if output is None else Path(output)
    return do_study(name, folder, quick=quick, settings=_settings(settings), tell=tell)


def _sweep(given: Sweep | File | Plain, settings: Iterable[str]) -> Sweep:
    settings = _settings(settings)
    if isinstance(given, Sweep):
        return Sweep.read(documents.apply_settings(given.plain(), settings)) if settings else given
    if isinstance(given, Mapping):
        return Sweep.read(_with_settings(given, settings))
    return Sweep.load(Path(_path(given, "a sweep")), settings)


def _experiment(given: Experiment | File | Plain, settings: Iterable[str]) -> Experiment:
    settings = _settings(settings)
    if isinstance(given, Experiment):
        return single.parse(documents.apply_settings(given.plain(), settings)) if settings else given
    if isinstance(given, Mapping):
        return single.parse(_with_settings(given, settings))
    return single.read(Path(_path(given, "an experiment")), settings)


def _plain(given: File | Plain) -> Plain:
    return given if isinstance(given, Mapping) else documents.load(Path(_path(given, "a sweep or an experiment"))).data


def _with_settings(given: Plain, settings: Iterable[str]) -> Document:
    """Return plain data merged over the data that it extends; paths are relative to the current folder."""
    plain = {str(key): _as_yaml(value) for key, value in given.items()}
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise InputError("the current folder is gone; change into another folder (os.chdir)") from error
    return documents.apply_settings(documents.extended(plain, here), settings)


def _as_yaml(value: object) -> object:
    """Return plain data with lists in place of tuples, and text in place of paths, as a YAML file has them."""
    if isinstance(value, Mapping):
        return {key: _as_yaml(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_yaml(item) for item in value]
    return fspath(value) if isinstance(value, PathLike) else value


def _settings(given: Iterable[str]) -> list[str]:
    """Return settings as a list.

    Raises:
        InputError: they are one text, whose letters would be the settings, or something else.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"settings: must be a list of texts key=value, as ['seed=3'], got {shown(given)}")
    found = list(given)
    wrong = [one for one in found if not isinstance(one, str)]
    if wrong:
        raise InputError(f"settings: each must be a text key=value, as 'seed=3', got {shown(wrong[0])}")
    return found


def _path(given: object, what: str) -> str:
    """Return the path of a file or of a run, or the run's address, as text.

    Raises:
        InputError: it is no path.
    """
    path = fspath(given) if isinstance(given, str | PathLike) else given
    if not isinstance(path, str):
        raise InputError(f"{what} is given by a path (text or pathlib.Path), or as plain data, got {shown(given)}")
    return path


def _named(name: object, given: object, kind: str) -> str:
    """Return the name of a run; without one, that of the file and the time.

    Raises:
        InputError: the name is no text.
    """
    if name is None:
        stem = Path(given).stem if isinstance(given, str | PathLike) else kind
        return f"{stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    if not isinstance(name, str):
        raise InputError(f"name: must be text, got {shown(name)}; `storage` is the folder that runs are kept in")
    return name


def _folder(storage: object) -> StoragePlace:
    path = fspath(storage) if isinstance(storage, str | PathLike) else storage
    if not isinstance(path, str):
        raise InputError(f"storage: must be a path or an address, got {shown(storage)}")
    try:
        return storage_place(path)
    except ValueError as error:
        raise InputError(f"storage: {error}") from error


def _heard(listener: object) -> Listener:
    """Return a listener whose errors are those of this package.

    Raises:
        InputError: it cannot be called.
    """
    if not callable(listener):
        raise InputError(f"listener: must be a function of an Event, got {shown(listener)}")

    def hear(event: Event) -> None:
        try:
            listener(event)
        except TskdTuneError:
            raise
        except Exception as error:  # a listener is the caller's code
            raise RunError(f"listener: raised an error ({reason(error)}); correct it, then resume the run") from error

    return hear
