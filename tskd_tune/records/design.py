"""Summarizes what a run will train: ``design.json`` in the run's folder holds the numbers that the status needs.

Without the file, the status has to read the whole search space, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from tskd_tune.metrics import Mode
from tskd_tune.records.files import read_text
from tskd_tune.records.lines import json_line, parsed_line
from tskd_tune.records.row import Record
from tskd_tune.records.store import Store

FILE: Final = "design.json"


class Design(Record):
    """What a run will train.

    Attributes:
        seeds: the seeds of each trial.
        epochs: the epochs of each training; None where configurations differ in length.
        searched: whether a searcher chooses the configurations; then each trial has its own configuration.
        metric: the metric on the validation set that orders the arms; None without an order.
        mode: ``max`` where a larger metric is better, ``min`` where a smaller metric is better.
        objectives: whether the search has several objectives.
        method: the search, the scheduler and what ends the sweep early, in words; empty in files of older versions.
        hours: the sweep's budget; None for none.
        trials: the trials of a search; None for a grid, and in files of older versions.
        arms: the labels of a grid's arms; None for a search, and in files of older versions.
        identities: the identities of the experiments of these arms, which `tskd_tune.records.row.Row.identity` names.
        trained_seeds: the seeds of each arm, also those that were added.
        at_most: whether a scheduler may end trials early; then fewer epochs than planned may be trained.
    """

    seeds: int = 1
    epochs: int | None = None
    searched: bool = False
    metric: str | None = None
    mode: Mode = "max"
    objectives: bool = False
    at_most: bool = False
    method: str = ""
    hours: float | None = None
    trials: int | None = None
    arms: list[str] | None = None
    identities: list[str] = Field(default_factory=list)
    trained_seeds: list[int] = Field(default_factory=list)

    def names(self, arm: str | None, identity: str, seed: int) -> bool:
        """Tell whether a run trains this; True where it is not known which arms a run has.

        An arm may have got another label, and a record of an older version may have another identity.
        """
        if self.arms is None:
            return True
        return seed in self.trained_seeds and (arm in self.arms or identity in self.identities)


def write_design(store: Store, design: Design) -> None:
    """Write what a run will train.

    Raises:
        RunError: the disk is full, or the folder is gone.
    """
    store.write(FILE, json_line(design.plain()).encode())


def read_design(folder: Path) -> Design | None:
    """Return what a run will train; None for a run of an older version, and for a damaged file.

    Raises:
        RunError: the file cannot be read.
    """
    path = folder / FILE
    try:
        return Design.model_validate(parsed_line(read_text(path))) if path.exists() else None
    except ValidationError:
        return None
