"""The design of a run of an older version, read from the run's whole document. This module imports torch."""

from __future__ import annotations

from tskd_tune.experiment import Experiment
from tskd_tune.outside import only_data
from tskd_tune.records.entries.design import Design
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.sweeps.declared.design import design_of
from tskd_tune.sweeps.declared.schema import Sweep


def old_design(folder: RunFolder) -> Design:
    """Return the design of a run, which says what the run trains.

    Raises:
        InputError: the document is damaged, or names code, which is not imported.
    """
    document = folder.document()
    with only_data():
        if folder.state.kind == "train":
            return Design(epochs=Experiment.read(document).training.epochs)
        # What the file names by now is not what a process trained.
        return design_of(Sweep.read(document)).model_copy(update={"trials": None, "arms": None})
