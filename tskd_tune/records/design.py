"""What a run is to train, in the few numbers that its status needs: ``design.json`` in the run's folder.

Without the file, whoever looks at a run has to read its whole search space, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tskd_tune.files import write_whole
from tskd_tune.metrics import Mode
from tskd_tune.records.files import read_text
from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.row import Record

FILE: Final = "design.json"


class Design(Record):
    """What a run is to train.

    Attributes:
        seeds: the seeds that one trial trains.
        epochs: the epochs of each training; None where the points differ in length.
        searched: whether a searcher chooses the points, so that each trial is a point of its own.
        metric: the metric of the validation set by which arms are ordered; None where nothing is ordered.
        mode: whether more (``max``) or less (``min``) of the metric is better.
        objectives: whether several objectives are searched.
        at_most: whether a scheduler may end trials early, so that fewer epochs are trained than planned.
    """

    seeds: int = 1
    epochs: int | None = None
    searched: bool = False
    metric: str | None = None
    mode: Mode = "max"
    objectives: bool = False
    at_most: bool = False


def write_design(folder: Path, design: Design) -> None:
    """Write what a run is to train into its folder.

    Raises:
        RunError: the disk is full, or the folder is gone.
    """
    write_whole(folder / FILE, json_line(design.plain()))


def read_design(folder: Path) -> Design | None:
    """Return what a run is to train; None for a run of an older version, and where the file is damaged.

    Raises:
        RunError: the file may not be read.
    """
    path = folder / FILE
    try:
        return Design.model_validate(parsed_line(read_text(path))) if path.exists() else None
    except ValidationError:
        return None
