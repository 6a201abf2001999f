"""Writes which samples a training that has ended got right, as a small file beside its student."""

from __future__ import annotations

import hashlib
import json

from torch import Tensor

from tskd_tune.experiment import Experiment
from tskd_tune.metrics import Part
from tskd_tune.records.kept.hits import HITS, KeptHits, bytes_on_disk
from tskd_tune.records.kept.kept_examples import part_of
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.sessions.breakage import reason_of
from tskd_tune.records.sessions.session import Session
from tskd_tune.records.sessions.workplace import TrainingFiles
from tskd_tune.tasks.base import PLACES, Task
from tskd_tune.tasks.hits import Scored


def keep_hits(session: Session, files: TrainingFiles) -> None:
    """Write which samples the student got right in the last evaluation; nothing for a task that cannot say so.

    A training that was resumed after its end is evaluated once more. If that fails, the row has a warning.

    Raises:
        RunError: the disk is full, or the storage refuses or fails for long.
    """
    try:
        found = _hits(session)
    except Exception as error:  # a task of another package may raise any exception
        session.warn(f"hits: which samples are right could not be kept ({reason_of(error)}); the training is complete")
        return
    if found is not None:
        files.put(HITS, written(found))


def bytes_of_hits(experiment: Experiment, task: Task) -> int:
    """Return the bytes of the file of a training; 0 where there will be none."""
    part = part_of(experiment, task)
    if part is None or not isinstance(task.objective, Scored):
        return 0
    return bytes_on_disk(task.facts().samples[PLACES[part]])


def _hits(session: Session) -> KeptHits | None:
    trainer = session.trainer
    part = part_of(session.experiment, trainer.task)
    if part is None or not isinstance(trainer.task.objective, Scored):
        return None
    hits = trainer.evaluations.shown(trainer.student, part).hits
    if hits is None:
        return None
    trainer.compute.synchronize()  # the bits are read in another stream than that which computed them
    return KeptHits(
        part=part,
        metric=hits.scored.hit_metric().name,
        data=data_of(trainer.task, part, hits.targets),
        samples=len(hits.targets),
        bits=hits.packed(),
    )


def data_of(task: Task, part: Part, targets: Tensor) -> str:
    """Return the digest of a part's data in their order: of the source with its split, and of the targets ``[N]``."""
    words = json.dumps([task.source.identity(), part, len(targets)], sort_keys=True).encode()
    return hashlib.sha256(words + targets.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
