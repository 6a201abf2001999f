"""The budget of a run: what its processes have used so far, and how much is left."""

from __future__ import annotations

from datetime import UTC, datetime

from tskd_tune.errors import InputError
from tskd_tune.paths import in_shell
from tskd_tune.plain import Document
from tskd_tune.records.entries import teaching
from tskd_tune.records.runs.life import life
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.limits import HOUR, Limits
from tskd_tune.training.record import CLOCKS


def seconds_used(folder: RunFolder) -> float:
    """Return the seconds that processes have trained a run, including this process; the time between does not count.

    Raises:
        RunError: a record cannot be read.
    """
    histories = {run: folder.history(run) for run in folder.trials()}
    now, told = datetime.now(UTC), teaching.lines(folder.store)
    return life(folder, folder.rows(), histories, told, now).times.worked


def limits_of(sweep: Sweep, folder: RunFolder, gpus: float) -> Limits:
    """Return what may end a run early, counted from now; a trial takes ``gpus`` GPUs.

    Raises:
        InputError: ``budget.gpu_hours`` is given, but a trial takes no GPU.
    """
    budget = sweep.budget
    if budget is None and sweep.stop is None:
        return Limits()
    if budget is not None and budget.gpu_hours is not None and not gpus:
        raise InputError("budget.gpu_hours: a trial takes no GPU here, so none is counted; give budget.hours")
    found = Limits(
        budget,
        sweep.stop,
        metric=sweep.metric,
        mode=sweep.mode,
        used=seconds_used(folder),
        gpus=gpus,
    )
    for run in folder.trials() if budget is not None and budget.gpu_hours is not None else []:
        for line in folder.history(run):
            found.count(run, line.seed, line.epoch, sum(line.number(name) or 0.0 for name in CLOCKS))
    return found


def refuse_used_up(sweep: Sweep, folder: RunFolder) -> None:
    """Refuse to resume a run whose hours are used up.

    Raises:
        InputError: nothing could be trained.
    """
    hours = None if sweep.budget is None else sweep.budget.hours
    if hours is not None and (used := seconds_used(folder)) >= hours * HOUR:
        raise InputError(
            f"{folder.place}: its budget of {hours:g} h is used up ({used / HOUR:.2f} h); give it more, for example 2"
            f" h, with: tskd-tune resume {in_shell(folder.place)} --hours 2"
        )


def with_hours(folder: RunFolder, hours: float) -> Document:
    """Return the document of a run whose budget is what it has used so far, plus these hours."""
    document = folder.document()
    total = seconds_used(folder) / HOUR + hours
    return {**document, "budget": {**(document.get("budget") or {}), "hours": round(total, 6)}}
