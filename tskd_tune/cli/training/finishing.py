"""What a resume does for a run whose trainings have all ended: it finishes the report, and says so."""

from __future__ import annotations

from contextlib import suppress

from tskd_tune.cli.terminal import say
from tskd_tune.errors import InputError
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.sittings import sittings
from tskd_tune.records.runs.counted import added_trials, counted
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.page.report import write_report
from tskd_tune.sweeps.declared.stored import sweep_of

REPORT = "report.html"


def ended(folder: RunFolder) -> int:
    """Return how many trainings of the run's arms have ended, without the trainings that broke."""
    return sum(row.ended for row in counted(folder, folder.rows()))


def is_finished(folder: RunFolder) -> bool:
    """Tell whether nothing of a run is left to train, also where its file was edited since."""
    expected = folder.state.expected
    if expected is None or ended(folder) < expected or _has_new_target(folder):
        return False
    return folder.state.kind == "train" or not lacks_points(folder)


def lacks_points(folder: RunFolder) -> bool:
    """Tell whether the file of a sweep names trainings that have not ended, such as a seed that was written into it."""
    from tskd_tune.sweeps.stages import left

    try:
        sweep = sweep_of(folder)
        if not sweep.is_exact:
            return added_trials(folder) > 0
        return not sweep.is_judged and bool(left(sweep, folder))
    except InputError:  # a damaged file, of which the report says so
        return False


def _has_new_target(folder: RunFolder) -> bool:
    """Tell whether a search ended at a target, and its file now has another target or none."""
    found = conclusion(folder.store)
    return found is not None and found.stop is not None and folder.document().get("stop") != found.stop


def say_finished(folder: RunFolder) -> None:
    """Say that nothing is left to train, after the report of a run that was killed at its end was written.

    Raises:
        InputError: another process trains the run.
        RunError: the records cannot be read, or the folder cannot be written.
    """
    finish_report(folder)
    say(f"{folder.place} is finished, nothing is left to train: {summary(folder).runs.sentence}")


def finish_report(folder: RunFolder) -> None:
    """Write the report of a run whose process was killed after its last training, and remove incomplete files.

    Raises:
        InputError: another process trains the run.
        RunError: the records cannot be read, or the folder cannot be written.
    """
    stale = _is_stale(folder)
    if stale or any(folder.path.rglob("*.part")):
        with folder.alone():
            if stale:
                write_report(folder)


def _is_stale(folder: RunFolder) -> bool:
    """Tell whether the report may lack a training: it is missing, older than the last row, or a process was killed.

    An interrupted process and an extension leave the report of an earlier part of the run. The files of a copied folder
    may have other times, so it also counts whether the last process ended.
    """
    page, rows = folder.path / REPORT, folder.rows_path
    if not page.exists():
        return True
    with suppress(OSError):  # a copy of an object storage has the times of the copying
        if folder.remote is None and page.stat().st_mtime_ns < rows.stat().st_mtime_ns:
            return True
    last = sittings(folder.store)[-1:]
    return bool(last) and last[0][1] is None
