"""What a run trains by its file as it is now, after an edit by hand. This module imports torch."""

from __future__ import annotations

from tskd_tune.outside import only_data
from tskd_tune.records.entries.design import Design
from tskd_tune.records.runs.counted import counted_by
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.design import design_in
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.declared.stored import sweep_of
from tskd_tune.sweeps.stages import left


def edited_design(folder: RunFolder) -> tuple[Design, int] | None:
    """Return the design of a grid as its file says now, and the number of its trainings, ended or not.

    None where a scheduler stops trials.

    Raises:
        InputError: the file is damaged, or has a mistake; `CodeError`: it names code, which is not imported.
        RunError: the records cannot be read.
    """
    with only_data():
        sweep = sweep_of(folder)
        if sweep.is_judged:
            return None
        design = design_in(folder, sweep)
        ended = sum(row.ended for row in counted_by(design, folder.rows()))
        return design, ended + len(left(sweep, folder))


def trained(folder: RunFolder, sweep: Sweep) -> tuple[int, int]:
    """Return how many trainings of a sweep have ended in its run, without those that broke, and the epochs trained.

    Raises:
        InputError: a point is not a valid experiment.
        RunError: the records cannot be read.
    """
    rows = folder.rows()
    counting = counted_by(design_in(folder, sweep), rows)
    other = {row.run for row in rows} - {row.run for row in counting}
    epochs = sum(len(folder.history(run)) for run in folder.trials() if run not in other)
    return sum(row.ended for row in counting), epochs
