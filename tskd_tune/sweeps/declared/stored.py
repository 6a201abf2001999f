"""Reads the sweep of a run from the run's own file, which may have been edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tskd_tune.errors import InputError
from tskd_tune.records.entries.upgrade import groups_before, upgrade_document
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.schema import Sweep


def sweep_of(run: RunFolder, document: Mapping[str, Any] | None = None) -> Sweep:
    """Return the sweep of a run.

    Args:
        run: the run.
        document: what is read in place of the run's file; None for the file.

    Raises:
        InputError: the file is missing or has mistakes; each line names the file, which is not that of the user.
    """
    given = run.document() if document is None else dict(document)
    try:
        sweep = Sweep.read(given)
        _refuse_nulls(sweep, run.state.format)
        return sweep
    except InputError as error:
        place = run.store.place("sweep.yaml")
        raise InputError("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error


def as_begun(sweep: Sweep, form: int) -> Sweep:
    """Return a sweep whose file leaves options out with the defaults of a run that an older version began.

    So what a file of today adds to such a run is trained as the rest of the run.

    Args:
        sweep: the sweep of the file.
        form: the format of the run's folder.
    """
    plain = sweep.plain()
    begun = upgrade_document(plain, form)
    return sweep if begun == plain else Sweep.read(begun)


def _refuse_nulls(sweep: Sweep, form: int) -> None:
    """Refuse a null that takes options of a whole group away, which today's defaults would then replace."""
    groups = groups_before(form)
    for point in sweep.space().corners() if groups else ():
        for group in groups:
            if point.experiment.get(group) is None:
                raise InputError(
                    f"{group}: is null in '{point.label}', and defaults of {group} have changed since the run began;"
                    f" write each option of {group} there (docs/options.md lists the defaults of today;"
                    " training.channels_last was false)"
                )
