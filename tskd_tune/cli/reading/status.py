"""The ``status`` command: the progress of a run, once or repeated until the run has ended."""

from __future__ import annotations

import time

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from tskd_tune.cli.reading.run_status import RunStatus, run_status
from tskd_tune.cli.reading.trial_status import State
from tskd_tune.cli.terminal import console, put_json, say
from tskd_tune.errors import InputError
from tskd_tune.paths import StoragePlace, in_shell
from tskd_tune.records.entries.teaching import Teaching
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.forms.short import broken_teacher_line, duration
from tskd_tune.signals import Ended
from tskd_tune.words import count

# After this time without a record, a process probably hangs.
SILENCE = 600.0
# The method of a grid in which nothing is stopped.
PLAIN = "grid, fifo"


def status(run: str, storage: StoragePlace, *, as_json: bool = False, watch: float | None = None) -> None:
    """Show the progress of a run. Nothing is written, so a run that trains now is not disturbed.

    Args:
        run: the run's path, or its name in ``storage``.
        storage: the folder of the runs.
        as_json: print one JSON object.
        watch: seconds between two updates, until the run has ended; None shows the status once.

    Raises:
        InputError: there is no such run, or the options contradict each other.
        RunError: the run's records cannot be read.
    """
    folder = RunFolder.open(run, storage)
    if watch is not None and as_json:
        raise InputError("--json: cannot be combined with --watch; give one of them")
    if watch is not None:
        _watch(folder.place, watch)
    elif as_json:
        put_json(run_status(folder).plain())
    else:
        for line in lines(folder, run_status(folder)):
            say(line)


def lines(folder: RunFolder, found: RunStatus) -> list[str]:
    """Return the lines that the command prints for a run."""
    open_trials = [f"  {trial.line(_word(found, trial.state))}" for trial in found.trials if trial.state != "done"]
    teachers = [teaching_line(teacher) for teacher in found.teachers if teacher.state != "ready"]
    return [
        f"{folder.place}: {short(found)}",
        *_method(found),
        *teachers,
        *open_trials,
        *_best(found),
        *found.edited,
        *found.damage,
        _time(found, folder.place),
    ]


def short(found: RunStatus) -> str:
    """Return ``4 trials: 1 waiting, 1 running, 2 done, 14 of 24 epochs trained``."""
    return f"{_counts(found)}, {_epochs(found)}"


def teaching_line(teacher: Teaching) -> str:
    """Return ``teacher resnet20: 12 of 60 epochs, roughly 30.0 s left``; the students train after the teacher."""
    if teacher.state == "waiting":
        return f"teacher {teacher.name}: another run trains the same teacher now; this run waits for it"
    if teacher.state == "broken":
        return broken_teacher_line(teacher)
    left = "" if teacher.left is None else f", roughly {duration(teacher.left)} left"
    return f"teacher {teacher.name}: {teacher.epochs} of {teacher.planned} epochs{left}; the trainings begin after it"


# Watching


def _watch(path: StoragePlace, every: float) -> None:
    """Show the status repeatedly until no process trains the run any more."""
    terminal = console()
    try:
        if terminal.is_terminal:
            with Live(console=terminal, auto_refresh=False) as live:
                while not _drawn(live, path):
                    time.sleep(every)
        else:
            _tell_changes(path, every)
    except KeyboardInterrupt:
        raise typer.Exit(Ended.code()) from None


def _drawn(live: Live, path: StoragePlace) -> bool:
    """Draw a run's status, and tell whether the run has ended."""
    folder = RunFolder.open(path)
    found = run_status(folder)
    live.update(Group(*map(Text, lines(folder, found))), refresh=True)
    return found.ended


def _tell_changes(path: StoragePlace, every: float) -> None:
    """Write a line for each change, and the whole status at the end, for output to a file or another program."""
    told = ""
    while True:
        folder = RunFolder.open(path)
        found = run_status(folder)
        if found.ended:
            break
        teachers = [teaching_line(teacher) for teacher in found.teachers if teacher.state != "ready"]
        line = "; ".join([f"{folder.name}: {short(found)}", *teachers])
        if line != told:
            told = line
            say(f"{line}, {_left(found)}")
        time.sleep(every)
    for line in lines(folder, found):
        say(line)


# Words


def _counts(found: RunStatus) -> str:
    """Return ``4 trials: 1 waiting, 1 running, 2 done``, without states that no trial has."""
    states = found.counts()
    states["failed"] = (states["failed"] or 0) - found.broke
    counts = [f"{count} {_word(found, state)}" for state, count in states.items() if count]
    counts += [f"{found.broke} broke"] if found.broke else []
    known = len(found.trials) if found.expected is None else found.expected
    what = "trial" if found.kind == "sweep" else "training"
    trials = count(known, what)
    return f"{trials}: {', '.join(counts)}" if counts else f"{trials}, none has begun"


def _word(found: RunStatus, state: State) -> str:
    """Return a state in words. An unfinished trial is ``begun`` and not ``running`` where no process trains the run."""
    return "begun" if state == "running" and found.running is False else state


def _epochs(found: RunStatus) -> str:
    if found.epochs_left is None:
        return f"{count(found.epochs, 'epoch')} trained"
    return f"{found.epochs} of {found.epochs + found.epochs_left} epochs trained"


def _method(found: RunStatus) -> list[str]:
    """Return the search and the scheduler, and the hours of the budget that are left; nothing for a plain grid."""
    if found.method in ("", PLAIN):
        return []
    left = "" if found.hours is None else f"; {max(0.0, found.hours - found.elapsed / 3600):.2f} h left"
    return [f"{found.method}{left}"]


def _best(found: RunStatus) -> list[str]:
    if found.front:
        return [f"Pareto front so far: {'; '.join(found.front)}"]
    if found.best is None:
        done = found.kind == "sweep" and found.counts()["done"]
        return (
            ["no best arm is shown: the validation set was not measured, and the test set is not used to choose arms"]
            if done
            else []
        )
    caution = "; the best of several looks better than it is" if found.best.among > 1 else ""
    of = f" (of {found.best.among} arms)" if found.best.among > 1 else ""
    return [f"best so far{of}: {found.best.line()}{caution}"]


def _time(found: RunStatus, path: StoragePlace) -> str:
    spent = f"{duration(found.elapsed)} of work"
    if found.sittings > 1:
        spent += f" in {found.sittings} sittings, without the time between the sittings"
    if found.running is False and found.concluded:
        return f"{spent}. {found.concluded}"
    if found.finished:
        return f"{spent}; ended"
    if found.running is False and found.broke:
        by_signal = f"{_interrupted(found)}; " if found.interrupted and found.interrupted.by else ""
        return f"{spent}; {by_signal}train the broken runs again with: tskd-tune resume {in_shell(path)}"
    if found.running is False:
        ended = f"{spent}, {_left(found)}; {_interrupted(found)}"
        return f"{ended}; continue with: tskd-tune resume {in_shell(path)}"
    return f"{spent}, {_left(found)}{_silence(found, path)}"


def _interrupted(found: RunStatus) -> str:
    """Say what stopped a run of which trainings are left: a signal, a kill, or nothing that is known."""
    how = found.interrupted
    if how is None or found.last is None:
        return "interrupted: no process trains this run now"
    were = ""
    if found.kind == "sweep" and found.open:
        were = f", when {found.open} {'trial was' if found.open == 1 else 'trials were'} training"
    return f"interrupted: {how.sentence(found.last, were)}"


def _left(found: RunStatus) -> str:
    if found.left is None:
        return "too early to tell how long it takes"
    about = "at most roughly" if found.at_most else "roughly"
    return f"{about} {duration(found.left)} left"


def _silence(found: RunStatus, path: StoragePlace) -> str:
    if found.silent <= SILENCE:
        return ""
    resume = "" if found.running else f"; if no process trains it: tskd-tune resume {in_shell(path)}"
    return f"; no record for {duration(found.silent)}{resume}"
