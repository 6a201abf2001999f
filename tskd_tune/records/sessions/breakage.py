"""Records a training that broke: the reason in the row, the whole error in a file, and whether to try again.

A training that diverged is a result. A training that broke is not a result: the row is marked, and `resume` continues
the training from the newest complete checkpoint.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tskd_tune.errors import LostWorkerError, TskdTuneError, UnwritableError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity as identity_of
from tskd_tune.plain import Json
from tskd_tune.records.entries.row import UNKNOWN, Cost, PlanRecord, Row, last_metrics
from tskd_tune.records.entries.state import now
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.redaction import redacted
from tskd_tune.storage.failures import StorageError

LONGEST_REASON = 300
# The address in an object's text differs in every process and carries no information.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Errors whose cause may pass, such as a short lack of memory.
_PASSING = (MemoryError, torch.OutOfMemoryError, ConnectionError, TimeoutError, LostWorkerError)
_PASSING_ERRNO = {errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_ACCELERATOR = ("CUDA error", "CUDA out of memory", "cuDNN error", "NCCL error")


@dataclass(frozen=True)
class Breakage:
    """Why a training broke.

    Attributes:
        reason: one line, which names the error.
        text: the whole error, for the file beside the training's history.
        passing: whether a new process may succeed, such as after a lack of memory or a killed worker.
        lost_worker: whether another worker of the training was lost.
        silent: the IP addresses of the machines whose workers neither answered nor ended.
    """

    reason: str
    text: str
    passing: bool
    lost_worker: bool = False
    silent: tuple[str, ...] = ()


def breakage(error: BaseException) -> Breakage:
    """Return the reason, the text and the kind of an error that was raised while a training was built or trained."""
    text = redacted("".join(traceback.format_exception(error)))
    silent = error.silent if isinstance(error, LostWorkerError) else ()
    return Breakage(reason_of(error), text, _is_passing(error), isinstance(error, LostWorkerError), silent)


def reason_of(error: BaseException) -> str:
    """Return an error as one line: the message of an error of this package, otherwise the type and the message."""
    text = " ".join(str(error).split())
    if not isinstance(error, TskdTuneError):
        name = type(error).__name__
        text = f"{name}: {text}" if text else name
    if isinstance(error, MemoryError) and not str(error):
        text += ": the process found no more memory"
    return shortened(redacted(_ADDRESS.sub("", text)))


def shortened(reason: str) -> str:
    """Return a reason short enough for a line of a table; the file beside the history holds the whole error."""
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."


def _is_passing(error: BaseException) -> bool:
    """Tell whether a new process may succeed; training is deterministic, so an error in the code would occur again."""
    if isinstance(error, (*_PASSING, StorageError)):
        return True
    if isinstance(error, UnwritableError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError):
        return error.errno in _PASSING_ERRNO
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _ACCELERATOR)


def broken_row(
    experiment: Mapping[str, object],
    seed: int,
    history: Sequence[HistoryLine],
    reason: str,
    *,
    run: str,
    arm: str,
    point: Mapping[str, Json],
    identity: str | None = None,
    started: str | None = None,
) -> Row:
    """Make the row of a training whose process wrote no row, from the experiment and the history.

    Args:
        experiment: plain data; this function sets the seed.
        seed: the training's seed.
        history: the epochs so far.
        reason: why the training broke, in one line.
        run: the trial's id.
        arm: the label of the configuration.
        point: search parameter -> sampled value.
        identity: the digest that names the training, together with the seed; None: the experiment's digest.
        started: when the training began, as ISO 8601; None where unknown.
    """
    document = {**experiment, "seed": seed}
    last = history[-1].numbers if history else {}
    trained = sum(line.number("seconds") or 0.0 for line in history)
    threads = _of_training(experiment, "threads")
    facts = {
        "run": run,
        "arm": arm,
        "point": dict(point),
        "seed": seed,
        "status": "failed",
        "reason": reason,
        "broke": True,
        "epochs": len(history),
        "metrics": last_metrics(last),
        "cost": Cost(
            seconds=trained + sum(line.number("eval_seconds") or 0.0 for line in history),
            train_seconds=trained,
            device=UNKNOWN,
            threads=threads if isinstance(threads, int) and threads else 1,
        ),
        "started": started or now(),
        "finished": now(),
        "experiment": document,
    }
    return Row.model_validate(facts | _planned(document) | ({"identity": identity} if identity else {}))


def _of_training(experiment: Mapping[str, object], name: str) -> object:
    training = experiment.get("training")
    return training.get(name) if isinstance(training, Mapping) else None


def _planned(document: Mapping[str, object]) -> dict[str, object]:
    """Return identity, length, reviews and preset of an experiment; of an incomplete experiment, what can be read."""
    try:
        experiment = Experiment.read(dict(document))
        plan = experiment.plan()
    except (TskdTuneError, ImportError):
        epochs = _of_training(document, "epochs")
        return {"epochs_planned": epochs if isinstance(epochs, int) else 0, "preset": str(document.get("preset"))}
    return {
        "epochs_planned": experiment.training.epochs,
        "plan": PlanRecord()
        if plan is None
        else PlanRecord(memorize=[*plan.memory_epochs], review=[*plan.review_epochs]),
        "identity": identity_of(experiment),
        "preset": experiment.preset,
        "deviations": experiment.deviations(),
        "warnings": experiment.warnings(),
    }


def of_seed(lines: Iterable[HistoryLine], seed: int) -> list[HistoryLine]:
    """Return the epochs of one seed from a trial's history."""
    return [line for line in lines if line.seed == seed]
