"""Which trainings of a run count, where its file was edited by hand: those that the file names count, and no others.

``design.json`` says what a process read in the file when it trained the run last. Rows of arms and seeds that were
taken out of a grid before stay in the tables, but do not count as trainings of the run. A search with more trials in
its file than before lacks these trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from tskd_tune.errors import InputError
from tskd_tune.records.conclusion import conclusion
from tskd_tune.records.design import Design, read_design
from tskd_tune.records.row import Row
from tskd_tune.records.run_folder import RunFolder


def counted(run: RunFolder, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the arms and seeds that the run trains."""
    design = read_design(run.path) or Design()
    return [row for row in rows if design.names(row.arm, row.identity, row.seed)]


def added_trials(run: RunFolder) -> int:
    """Return by how many ``search.trials`` was raised since a process trained the run last, as a resume trains them.

    After a trial has reached its target, a resume trains no further trial. A damaged file adds none.
    """
    design, ended = read_design(run.path), conclusion(run.store)
    if design is None or design.trials is None or (ended is not None and ended.stop is not None):
        return 0
    search = None
    with suppress(InputError):
        search = run.document().get("search")
    now = search.get("trials") if isinstance(search, dict) else None
    return max(0, now - design.trials) if isinstance(now, int) else 0


def edited(run: RunFolder, rows: Sequence[Row], added: int) -> list[str]:
    """Say what was written into the file of a run, or taken out of it, that changes how many trainings it has.

    Args:
        run: the run.
        rows: the rows of the run.
        added: the number of `added_trials`.
    """
    said = []
    if added:
        more = "1 more trial is" if added == 1 else f"{added} more trials are"
        said.append(
            f"search.trials was raised in {run.store.place('sweep.yaml')}: {more} not trained; train on with: tskd-tune"
            f" resume {run.place}."
        )
    design = read_design(run.path) or Design()
    if gone := [row for row in rows if not design.names(row.arm, row.identity, row.seed)]:
        arms = ", ".join(dict.fromkeys(f"'{row.arm}'" for row in gone))
        trainings = "1 training does" if len(gone) == 1 else f"{len(gone)} trainings do"
        said.append(f"{trainings} not count, because the sweep's file no longer names the arm or the seed: of {arms}.")
    return said
