"""What a sweep sends to every trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tskd_tune.records.wandb.server import Connection, Place
from tskd_tune.storage.copies import RunAt
from tskd_tune.sweeps.machines.node_probe import Looked
from tskd_tune.training.teachers import TeacherFile


@dataclass(frozen=True)
class Shipped:
    """What a sweep sends to every trial: the run's folder, the metric that is compared, and the teachers' files.

    Attributes:
        folder: the run's folder on the driver's machine, for W&B's offline files; None for no tracking. A worker of a
            run on an object storage writes them into its own machine's folder.
        teachers: key -> the teacher and the content of its file, for machines that do not share a cache.
        place: where W&B runs go.
        key: a text that separates this sweep's W&B runs from the runs of other sweeps.
        connection: the result of probing W&B's server once.
        run: the run's folder, or how a worker finds the run on an object storage, for checkpoints and students; None
            for none.
        by_identity: whether W&B runs are named by the identity of their training; otherwise by the trial's id.
        report_seconds: epochs that end within so many seconds are reported together, because one report of many epochs
            costs about as much as a report of one.
        awaited: the numbers of trained epochs after which a scheduler decides whether the trial goes on, so that the
            trial reports there; None: it reports after every epoch.
        looked: what a machine that joins later must have; None on one machine alone.
        workers: how many processes share the batches of a trial.
        gpu_share: the share of a GPU that a process of a trial asks for; 1 also without a GPU.
    """

    sweep: str
    folder: Path | None
    metric: str
    mode: str
    teachers: Mapping[str, tuple[TeacherFile, bytes]]
    place: Place = field(default_factory=Place)
    key: str | None = None
    connection: Connection | None = None
    run: Path | RunAt | None = None
    by_identity: bool = True
    report_seconds: float = 0.0
    awaited: frozenset[int] | None = frozenset()
    looked: Looked | None = None
    workers: int = 1
    gpu_share: float = 1.0
