"""A training that broke: the reason in its row, the whole error in a file, and whether another try may succeed.

A training that diverged is a result. A training that broke is not a result: its row says so, and `resume` trains it
again from its newest whole checkpoint.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tskd_tune.errors import TskdTuneError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity as identity_of
from tskd_tune.plain import Document, Json
from tskd_tune.records.row import UNKNOWN, Cost, PlanRecord, Row, last_metrics
from tskd_tune.records.state import now

LONGEST_REASON = 300
# The address that an object prints of itself differs in every process and says nothing.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# A machine may lack these for a moment only.
_PASSING = (MemoryError, torch.OutOfMemoryError, ConnectionError, TimeoutError)
_PASSING_ERRNO = {errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EAGAIN, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}
_ACCELERATOR = ("CUDA error", "CUDA out of memory", "cuDNN error", "NCCL error")


@dataclass(frozen=True)
class Breakage:
    """Why a training broke.

    Attributes:
        reason: one line, which names the error.
        text: the whole error, for the file beside the training's history.
        passing: whether another process may do better, as where memory was short or a worker was killed.
    """

    reason: str
    text: str
    passing: bool


def breakage(error: BaseException) -> Breakage:
    """Return the reason, the text and the kind of an error that was raised while a training was built or trained."""
    return Breakage(reason_of(error), "".join(traceback.format_exception(error)), _is_passing(error))


def reason_of(error: BaseException) -> str:
    """Return an error as one line: its sentence if it is one of ours, otherwise its type and what it says."""
    text = " ".join(str(error).split())
    if not isinstance(error, TskdTuneError):
        name = type(error).__name__
        text = f"{name}: {text}" if text else name
    if isinstance(error, MemoryError) and not str(error):
        text += ": the process found no more memory"
    return shortened(_ADDRESS.sub("", text))


def shortened(reason: str) -> str:
    """Return a reason that fits into a line of a table; the file beside the history holds the whole error."""
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}..."


def _is_passing(error: BaseException) -> bool:
    """Tell whether a new process may do better: an exception of the code comes again, as a training is exact."""
    if isinstance(error, _PASSING):
        return True
    if isinstance(error, OSError):
        return error.errno in _PASSING_ERRNO
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _ACCELERATOR)


def broken_row(
    experiment: Document,
    seed: int,
    history: Sequence[Document],
    reason: str,
    *,
    run: str,
    arm: str,
    point: Mapping[str, Json],
    identity: str | None = None,
    started: str | None = None,
) -> Row:
    """Make the row of a training whose process left none, from its experiment and its history.

    Args:
        experiment: plain data; its seed is filled in.
        seed: the training's seed.
        history: its epochs so far.
        reason: why it broke, in one line.
        run: its trial.
        arm: the label of its point.
        point: hole -> sampled value.
        identity: what names the training beside its seed; None: the experiment names the training.
        started: when it began, as ISO 8601; None where nobody knows.
    """
    document = {**experiment, "seed": seed}
    last = history[-1] if history else {}
    trained = sum(_number(line, "seconds") for line in history)
    return Row(
        run=run,
        arm=arm,
        point=dict(point),
        seed=seed,
        status="failed",
        reason=reason,
        broke=True,
        epochs=len(history),
        metrics=last_metrics(last),
        cost=Cost(
            seconds=trained + sum(_number(line, "eval_seconds") for line in history),
            train_seconds=trained,
            device=UNKNOWN,
            threads=int((experiment.get("training") or {}).get("threads") or 1),
        ),
        started=started or now(),
        finished=now(),
        experiment=document,
        **_planned(document) | ({"identity": identity} if identity else {}),
    )


def _planned(document: Document) -> Document:
    """Return what the experiment says of its identity, length, reviews and preset; what it can, if it is not whole."""
    try:
        experiment = Experiment.read(dict(document))
        plan = experiment.plan()
    except (TskdTuneError, ImportError):
        epochs = (document.get("training") or {}).get("epochs")
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


def _number(line: Document, name: str) -> float:
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def of_seed(lines: Iterable[Document], seed: int) -> list[Document]:
    """Return the epochs of one seed out of a trial's history."""
    return [dict(line) for line in lines if line["seed"] == seed]
