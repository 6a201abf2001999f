"""The commands that look at a run's files: ``report``, ``status`` and ``export``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tskd_tune.cli.running import show_results
from tskd_tune.cli.standing import Standing, standing
from tskd_tune.cli.terminal import put_json, say
from tskd_tune.errors import InputError, RunError, did_you_mean
from tskd_tune.records.results import Row, RunFolder
from tskd_tune.reports import tables
from tskd_tune.reports.page import write_report

# After so much silence it is likely that nobody trains any more.
SILENCE = 600.0


def report(run: str, storage: Path, *, as_json: bool) -> None:
    """Show what a run has found; its pages are written anew, unless only the object is asked for.

    Raises:
        InputError: there is no such run.
        RunError: its records cannot be read, or its folder cannot be written.
    """
    folder = RunFolder.open(run, storage)
    if as_json:
        put_json(tables.summary(folder))
        return
    write_report(folder)
    show_results(folder)


def status(run: str, storage: Path) -> None:
    """Show how far a run is.

    Raises:
        InputError: there is no such run.
        RunError: its records cannot be read.
    """
    folder = RunFolder.open(run, storage)
    found = standing(folder)
    say(f"{folder.path}: {tables.progress(found.found)}")
    for training in found.trainings:
        if training.status != "done":
            say(f"  {training.line()}")
    best = found.best()
    if best is not None:
        say(f"best so far: {best[0]}, {best[1]}")
    say(_time(found))


def _time(found: Standing) -> str:
    elapsed = f"{tables.duration(found.elapsed)} from its start to its last record"
    if found.finished:
        return elapsed
    left = (
        "too early to tell how long it takes" if found.left is None else f"roughly {tables.duration(found.left)} left"
    )
    hint = ""
    if found.silent > SILENCE:
        hint = f"; silent for {tables.duration(found.silent)}, if no process runs it: tskd-tune resume"
    return f"{elapsed}, {left}{hint}"


def export(run: str, arm: str, file: Path, seed: int | None, storage: Path) -> None:
    """Copy the final student of an arm to a new file.

    Raises:
        InputError: there is no such run, arm or seed, or the file exists or cannot be made.
        RunError: the student is gone from the run.
    """
    folder = RunFolder.open(run, storage)
    row = _chosen(folder.rows(), arm, seed)
    source = folder.student_path(row.run, row.seed)
    if not source.exists():
        raise RunError(f"{source}: the student is gone; restore it, or train the arm again under another name")
    _copy(source, file)
    say(f"{file}: {row.experiment['student']['name']} of '{row.arm}', seed {row.seed}, after epoch {row.epochs - 1}")


def _chosen(rows: Sequence[Row], arm: str, seed: int | None) -> Row:
    names = {row.arm for row in rows} | {row.run for row in rows}
    if arm not in names:
        raise InputError(f"ARM: no training of '{arm}' is finished{did_you_mean(arm, {row.arm for row in rows})}")
    done = [row for row in rows if arm in (row.arm, row.run) and row.status == "done"]
    if not done:
        raise InputError(f"ARM: no training of '{arm}' ended well, so there is no final student; choose another arm")
    if seed is None:
        seed = min(row.seed for row in done)
    chosen = [row for row in done if row.seed == seed]
    if not chosen:
        raise InputError(f"--seed: '{arm}' has no finished seed {seed}, but {sorted({row.seed for row in done})}")
    if len(chosen) > 1:
        runs = ", ".join(row.run for row in chosen)
        raise InputError(f"ARM: '{arm}' is the label of several trials ({runs}); give the id of one of them")
    return chosen[0]


def _copy(source: Path, file: Path) -> None:
    """Copy to a name that nobody has."""
    try:
        with file.open("xb") as target, source.open("rb") as student:
            try:
                shutil.copyfileobj(student, target)
            except BaseException:
                file.unlink()
                raise
    except FileExistsError as error:
        raise InputError(f"{file}: exists and is not overwritten; give another FILE") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); give another FILE") from error
