"""Runs a study by name in a folder, and writes its page, the numbers of its figures and ``found.json``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from tskd_tune import documents
from tskd_tune.errors import InputError, RunError, sentences
from tskd_tune.files import write_whole
from tskd_tune.records.entries.provenance import versions
from tskd_tune.records.storing.files import remove_parts
from tskd_tune.registry import Component
from tskd_tune.studies.base import STUDIES
from tskd_tune.studies.found import FOUND, Made, StudyFile, Table
from tskd_tune.studies.place import Place

PAGE, FIGURES, LOCK = "index.html", "figures", "study.lock"
# Libraries that compute the numbers of studies, beside those of trainings.
LIBRARIES = ("scipy", "statsmodels", "plotly")
MOST_THREADS = 1


def default_folder(name: str, *, quick: bool) -> Path:
    """Return the folder of a study for which the user named none."""
    return Path("studies") / (f"{name.rpartition(':')[2]}-quick" if quick else name.rpartition(":")[2])


def options_of(name: str, *, quick: bool, settings: Sequence[str]) -> Component:
    """Return the options of a study: its defaults, those of ``--quick``, and above them the settings.

    Raises:
        InputError: there is no such study, or a setting is wrong.
    """
    entry = STUDIES.entry(name)
    base = dict(getattr(entry.factory, "quick", {})) if quick else {}
    given = documents.apply_settings(base, settings)
    if "name" in given:
        raise InputError("study: `name` is no option; give the name of the study as the first argument")
    try:
        return STUDIES.options(name).model_validate({**given, "name": name})
    except ValidationError as error:
        raise InputError("\n".join(f"{name}: {line}" for line in sentences(error))) from error


def command_of(name: str, *, quick: bool, settings: Sequence[str]) -> str:
    """Return the command that makes a study again, without ``--output``."""
    words = ["tskd-tune", "study", name, *(["--quick"] if quick else [])]
    return shlex.join([*words, *(word for setting in settings for word in ("--set", setting))])


def do_study(
    name: str,
    folder: Path,
    *,
    quick: bool = False,
    settings: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> StudyFile:
    """Do a study, or what is left of it, and write its files into ``folder``.

    Args:
        name: the name of the study.
        folder: where it works; made if it is missing.
        quick: whether the options of ``--quick`` are used in place of the defaults.
        settings: options, ``option=value``.
        tell: is called with a sentence on the progress.

    Raises:
        InputError: the name or an option is wrong, or another study lies in the folder; nothing was started.
        RunError: something failed; what is finished is kept, and the same call goes on.
    """
    options = options_of(name, quick=quick, settings=settings)
    folder = folder.absolute()
    with _alone(folder, name):
        with Place(folder, tell) as place:
            found = STUDIES.make(options).run(place)
        whole = StudyFile(_made(name, options, quick, settings), found)
        _write(whole, folder)
    return whole


def _made(name: str, options: Component, quick: bool, settings: Sequence[str]) -> Made:
    plain = {key: value for key, value in options.plain().items() if key != "name"}
    used = versions() | {library: version(library) for library in LIBRARIES}
    command = command_of(name, quick=quick, settings=settings)
    return Made(name, STUDIES.entry(name).summary, command, plain, used, MOST_THREADS)


def _write(whole: StudyFile, folder: Path) -> None:
    from tskd_tune.studies.page import page  # plotly takes a second, which a mistake in the options need not wait for

    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    tables: dict[str, Table] = {figure.name: figure.table for figure in whole.found.figures}
    tables |= {table.name: table.table for table in whole.found.tables}
    for name, table in (tables | {"counted": whole.found.counted}).items():
        write_whole(figures / f"{name}.csv", table.csv())
    for path in figures.glob("*.csv"):  # of figures that the study no longer has
        if path.stem not in {*tables, "counted"}:
            path.unlink()
    write_whole(folder / PAGE, page(whole))
    write_whole(folder / FOUND, whole.json())


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the folder of a study, which is made; refuse a folder that has something else."""
    mark = folder / "study.txt"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output: {folder} is a file; name a folder")
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise InputError(f"--output: {folder} has files, but is not the folder of a study; name another folder")
    if mark.exists() and (held := mark.read_text("utf-8").strip()) != name:
        raise InputError(f"--output: {folder} is the folder of the study {held}; name another folder for {name}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made ({error.strerror}); name another folder with --output") from error
    lock = FileLock(folder / LOCK, timeout=0.5)
    write_whole(mark, f"{name}\n")
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"{folder}: another process works on this study; wait until it ends, or end it") from error
    try:
        remove_parts(folder)
        yield
    finally:
        lock.release()
