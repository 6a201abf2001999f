"""Summarizes what a run will train: ``design.json`` in the run's folder holds the numbers that the status needs.

Without the file, the status has to read the whole search space, which takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from tskd_tune.metrics import Mode
from tskd_tune.records.entries.row import Record
from tskd_tune.records.storing.files import read_text
from tskd_tune.records.storing.lines import json_line, parsed_line
from tskd_tune.records.storing.store import Store

FILE: Final = "design.json"

TRAINED: Final = ("experiment", "arms", "controls", "seeds", "search")
"""The keys of a sweep that say what is trained."""


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
        identities: the identities of the experiments of these arms, in files of older versions.
        labels: identity of an experiment, as in `tskd_tune.records.entries.row.Row.identity` -> label of its arm; of an
            experiment that has another identity in records of an older version, both. None for a search, and in files
            of older versions.
        document: the digest of what `digest` names in the sweep's file; empty in files of older versions.
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
    labels: dict[str, str] | None = None
    document: str = ""
    trained_seeds: list[int] = Field(default_factory=list)

    def names(self, arm: str | None, identity: str, seed: int) -> bool:
        """Tell whether a run trains this; True where it is not known which arms a run has.

        A record counts for the arm whose experiment it has, and not for its label, because the experiment of an arm may
        have been changed in the file. An arm may have got another label. Records of format 1 have labels only.
        """
        if self.arms is None:
            return True
        if seed not in self.trained_seeds:
            return False
        if self.labels is None or not identity:
            return arm in self.arms or identity in self.identities
        return identity in self.labels and (arm == self.labels[identity] or arm not in self.arms)

    def changed(self, arm: str, identity: str, seed: int) -> bool:
        """Tell whether a record is that of an arm whose experiment was changed after it was trained."""
        known = self.arms is not None and arm in self.arms and seed in self.trained_seeds
        return known and not self.names(arm, identity, seed)


def digest(document: Mapping[str, object]) -> str:
    """Return the digest of what the document of a sweep says of its trainings."""
    said = {key: document.get(key) for key in TRAINED}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


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
