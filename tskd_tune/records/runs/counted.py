"""Which trainings of a run count, where its file was edited by hand: those that the file names count, and no others.

``design.json`` says what a process read in the file when it trained the run last. Rows of arms and seeds that were
taken out of a grid before stay in the tables, but do not count as trainings of the run. A search with more trials in
its file than before lacks these trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from tskd_tune.errors import InputError
from tskd_tune.paths import in_shell
from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.design import Design, digest, read_design
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder

BEFORE: Final = ", before its change"
"""What the label of an arm ends with in tables, for its rows from before its experiment was changed."""


def counted(run: RunFolder, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the arms and seeds that the run trains."""
    design = read_design(run.path) or Design()
    return counted_by(design, rows)


def counted_by(design: Design, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the arms and seeds that a design names."""
    return [row for row in rows if design.names(row.arm, row.identity, row.seed)]


def set_apart(run: RunFolder, rows: Sequence[Row]) -> tuple[list[Row], set[str]]:
    """Return the rows, at the end those of arms whose experiments were changed later, with the labels given to these.

    Such rows stand in tables under a label of their own, and in no mean and no comparison of the arm as it is now.
    """
    design = read_design(run.path) or Design()
    old = [row for row in rows if design.changed(row.arm, row.identity, row.seed)]
    now = [row for row in rows if not design.changed(row.arm, row.identity, row.seed)]
    named = [row.model_copy(update={"arm": f"{row.arm}{BEFORE}"}) for row in old]
    return [*now, *named], {row.arm for row in named}


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


def edited(run: RunFolder, rows: Sequence[Row], added: int, design: Design | None = None) -> list[str]:
    """Say what was written into the file of a run, or taken out of it, that changes how many trainings it has.

    Args:
        run: the run.
        rows: the rows of the run.
        added: the number of `added_trials`.
        design: what the run trains; None: as a process read the file when it trained the run last.
    """
    said = []
    if added:
        more = "1 more trial is" if added == 1 else f"{added} more trials are"
        said.append(
            f"search.trials was raised in {run.store.place('sweep.yaml')}: {more} not trained; train on with: tskd-tune"
            f" resume {run.place}."
        )
    design = design or read_design(run.path) or Design()
    other = [row for row in rows if not design.names(row.arm, row.identity, row.seed)]
    changed = [row for row in other if design.changed(row.arm, row.identity, row.seed)]
    gone = [row for row in other if not design.changed(row.arm, row.identity, row.seed)]
    said += _not_counted(gone, "the sweep's file no longer names the arm or the seed")
    said += _not_counted(changed, "their arm was changed in the sweep's file after they were trained")
    return said


def lacking(run: RunFolder, missing: int, expected: int) -> str:
    """Say how many trainings an edited file of a grid names that have not ended, and how they are trained."""
    have = "has" if missing == 1 else "have"
    return (
        f"{_edited(run)}: of the {expected} trainings that the file names now, {missing} {have} not been trained; train"
        f" {'it' if missing == 1 else 'them'} with: tskd-tune resume {in_shell(run.place)}."
    )


def not_read(run: RunFolder) -> str:
    """Say that a report knows nothing of what was written into the file of a grid since it was trained last."""
    return (
        f"{_edited(run)}, and this report has what was trained before: `tskd-tune status {in_shell(run.place)}`"
        f" says what is missing, and `tskd-tune resume {in_shell(run.place)}` trains it."
    )


def mistaken(run: RunFolder, error: InputError) -> str:
    """Say that an edited file has a mistake, with which a resume would fail."""
    place = run.store.place("sweep.yaml")
    mistakes = " ".join(str(error).split()).removeprefix(f"{place}: ")
    again = f"tskd-tune resume {in_shell(run.place)}"
    return f"{_edited(run)}, and has a mistake: {mistakes}; correct the file before `{again}`"


def unknown(run: RunFolder, error: InputError) -> str:
    """Say that what an edited file trains is not known, because it names code."""
    return f"{_edited(run)}, and {error}; what is missing is trained by: tskd-tune resume {in_shell(run.place)}"


def _edited(run: RunFolder) -> str:
    return f"{run.store.place('sweep.yaml')} was edited after a process read it last"


def _not_counted(rows: Sequence[Row], why: str) -> list[str]:
    if not rows:
        return []
    arms = ", ".join(dict.fromkeys(f"'{row.arm}'" for row in rows))
    trainings = "1 training does" if len(rows) == 1 else f"{len(rows)} trainings do"
    return [f"{trainings} not count, because {why}: of {arms}."]


def unread(run: RunFolder) -> bool:
    """Tell whether the arms or the seeds in the file of a grid were edited since a process trained the run last.

    Of a grid whose scheduler stops trials this is not told.
    """
    design = read_design(run.path)
    if design is None or design.searched or design.at_most or not design.document:
        return False
    with suppress(InputError):  # a damaged file, which is said elsewhere
        return digest(run.document()) != design.document
    return False
