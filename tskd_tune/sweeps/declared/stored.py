"""Reads the sweep of a run from the run's own file, which may have been edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tskd_tune.errors import InputError
from tskd_tune.records.run_folder import RunFolder
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
        return Sweep.read(given)
    except InputError as error:
        place = run.store.place("sweep.yaml")
        raise InputError("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error
