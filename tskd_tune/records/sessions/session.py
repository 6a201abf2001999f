"""One training with its trainer, its tracker and its row."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from tskd_tune.errors import DivergedError, OtherDataError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import build
from tskd_tune.experiment.identity import identity
from tskd_tune.method.plan import ReviewPlan
from tskd_tune.metrics import Metric, Part, measured
from tskd_tune.networks.weights import write_state
from tskd_tune.outside import own_code, short_name
from tskd_tune.plain import Document, Json
from tskd_tune.records.entries.leaks import MARK
from tskd_tune.records.entries.row import (
    Best,
    Cost,
    DataRecord,
    EngineRecord,
    PlanRecord,
    Row,
    Status,
    TeacherRecord,
    last_metrics,
    other_part,
)
from tskd_tune.records.entries.state import now
from tskd_tune.records.wandb.tracking import Tracker
from tskd_tune.tasks.base import Task
from tskd_tune.training import exactness
from tskd_tune.training.group import Group
from tskd_tune.training.observers import Observer, Training
from tskd_tune.training.record import Record
from tskd_tune.training.reviewing import SILENT_SHARE
from tskd_tune.training.teachers import TeacherFile


@dataclass(frozen=True)
class Trial:
    """The trial of a training: the id, the arm, and search parameter -> sampled value.

    ``identity`` names the trial's trainings where two arms train the same experiment; None: the experiment's digest.
    ``gpu_share`` is the share of a GPU that the trial asked for, if it trains on one.
    """

    run: str
    arm: str
    point: Mapping[str, Json] = field(default_factory=dict)
    identity: str | None = None
    gpu_share: float = 1.0


class _Heard(Observer):
    """Passes the epochs of a training on to the tracker, and keeps why the training ended early.

    It holds no training, so that the memory of a training is free as soon as its session is forgotten.
    """

    def __init__(self, tracker: Tracker | None) -> None:
        self._tracker = tracker
        self.failure: str | None = None

    def recorded(self, training: Training, record: Record) -> None:
        """Track an epoch."""
        if self._tracker is not None:
            self._tracker.log(record.epoch, record.plain())

    def diverged(self, training: Training, error: DivergedError) -> None:
        """Keep how the training diverged."""
        self.failure = str(error)


class Session:
    """One experiment's training with what is recorded of it: the tracking and the row.

    `tskd_tune.training.lockstep.advance` trains ``trainer``; the session hears of each epoch as an observer.

    Attributes:
        trainer: the training.
        trial: the trial of the training.
        identity: the digest that names the training, together with its seed.
        teacher: the teacher; None if the experiment needs none.
        broke: whether the training broke; then a resume trains again. A divergence is a result.
    """

    def __init__(
        self,
        experiment: Experiment,
        teacher: TeacherFile | None,
        trial: Trial,
        tracker: Tracker | None,
        *,
        group: Group | None = None,
    ) -> None:
        """Build the training; `begin` starts the tracker, after a resume has loaded the state.

        Args:
            experiment: what is trained.
            teacher: the teacher; None if the experiment needs none.
            trial: the trial of the training.
            tracker: what logs the epochs; None for no tracking.
            group: the workers that share each batch; None: this process trains alone.
        """
        self.experiment = experiment
        self.trial = trial
        self.identity = trial.identity or identity(experiment)
        self.broke = False
        self.teacher = teacher
        self._noted: list[str] = [] if teacher is None or not teacher.leak else [f"{MARK}{teacher.leak}"]
        self._tracker = tracker
        self._closed = False
        self._together = 1
        self._edited: list[str] = []
        self._started = now()
        self._heard = _Heard(tracker)
        self.trainer = build(experiment, teacher, group)
        trained = [value for key, value in experiment.plain().items() if key != "observe"]  # observers change no result
        self._code = {short_name(name): code for name, code in own_code(trained).items()}
        self._workers = [self.trainer.compute.world]
        self.trainer.observers.append(self._heard)
        self._facts = self.trainer.task.facts()
        if self.trainer.compute.device.type == "cuda":  # a training on the CPU must not wake the GPU
            torch.cuda.reset_peak_memory_stats()

    def begin(self) -> None:
        """Start the tracker."""
        if self._tracker is not None:
            key = None if self.teacher is None else self.teacher.key  # tells teachers of one network apart
            told = {"deviations": self.experiment.deviations(), "teacher_key": key}
            self._tracker.start({**self.experiment.plain(), **told})

    def share(self, together: int) -> None:
        """Note that ``together`` trainings, this one included, share the process in this epoch."""
        self._together = max(self._together, together)

    def break_off(self, reason: str) -> None:
        """End a training that broke; the state must not be saved, because the epoch is incomplete."""
        self._heard.failure, self.broke = reason, True

    def warn(self, sentence: str) -> None:
        """Add a warning to the row."""
        self._noted.append(sentence)

    @contextmanager
    def observed_by(self, observer: Observer) -> Iterator[None]:
        """Let an observer hear of the training within the block, after the session itself."""
        self.trainer.observers.append(observer)
        try:
            yield
        finally:
            self.trainer.observers.remove(observer)

    @property
    def failure(self) -> str | None:
        """Why the training ended early: how it diverged, or why it broke; None if it did not end early."""
        return self._heard.failure

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.trainer.finished or self.failure is not None

    def close(self) -> None:
        """End the tracking, once; all files of the tracker are then complete."""
        if self._tracker is not None and not self._closed:
            self._closed = True
            row = self.row()
            summary = {"status": row.status, **row.metrics, "cost": row.cost.plain()}
            self._tracker.finish(summary, failed=self.failure is not None)

    def row(self, stopped: str | None = None) -> Row:
        """Make the row of the training so far; ``stopped`` says why a training that has not failed ends."""
        history = self.trainer.history
        status: Status = "failed" if self.failure else "done" if self.trainer.finished else "stopped"
        plan = self.experiment.plan()
        return Row(
            run=self.trial.run,
            identity=self.identity,
            arm=self.trial.arm,
            point=dict(self.trial.point),
            seed=self.experiment.seed,
            status=status,
            broke=self.broke,
            reason=self.failure or (stopped if status == "stopped" else None),
            epochs=len(history),
            epochs_planned=self.experiment.training.epochs,
            plan=_plan_record(plan),
            metrics=last_metrics(history[-1].numbers) if history else {},
            measures=[*self._facts.metrics],
            best=self._best(history),
            lambda_=None if self.trainer.review is None else self.trainer.review.strength.value,
            cost=self._cost(history),
            engine=EngineRecord(name=self.trainer.engine.name, reason=self.trainer.engine.reason),
            teacher=self._teacher_record(),
            data=_data_record(self.trainer.task),
            preset=self.experiment.preset,
            deviations=self.experiment.deviations(),
            warnings=[*self.experiment.warnings(), *_review_warnings(history), *self._warnings()],
            code=self._code,
            started=self._started,
            finished=now(),
            experiment=self.experiment.plain(),
        )

    def write_student(self, path: Path) -> None:
        """Write the student as a checkpoint in the usual layout, which ``weights:`` can read."""
        history = self.trainer.history
        accuracy = history[-1].numbers.get(measured("test", self._facts.headline)) if history else None
        facts = {"name": self.experiment.student.name, "epoch": len(history) - 1, "accuracy": accuracy}
        write_state(path, self.trainer.student, facts=facts)

    @cached_property
    def _fingerprint(self) -> str:
        return self.trainer.task.fingerprint()

    def state_dict(self) -> Document:
        """Return the state that a resume needs."""
        state = {"trainer": self.trainer.state_dict(), "started": self._started, "failure": self.failure}
        kept = {"data": self._fingerprint, "code": self._code, "edited": self._edited}
        return {**state, "together": self._together, "workers": self._workers, **kept}

    def load_state_dict(self, state: Document) -> None:
        """Go back to the end of the epoch at which the state was taken.

        Raises:
            OtherDataError: the data have changed since.
        """
        if state.get("data", self._fingerprint) != self._fingerprint:  # earlier versions did not keep it
            raise OtherDataError("the data have changed since this checkpoint was written")
        self.trainer.load_state_dict(state["trainer"])
        self._started = state["started"]
        self._heard.failure = state["failure"]
        self._together = state.get("together", 1)  # earlier versions did not keep it
        self._edited = state.get("edited", [])
        for name, code in state.get("code", {}).items():
            if self._code.get(name) != code:
                self._edited = [*self._edited, f"code: '{name}' was edited after epoch {len(self.trainer.history)}"]
        before, now = state.get("workers", [1]), self._workers[-1:]
        self._workers = [*before, *now] if before[-1:] != now else list(before)

    def _warnings(self) -> list[str]:
        inexact = self.trainer.engine.inexact
        counts = " and then ".join(map(str, self._workers))
        changed = [f"training: was shared by {counts} workers in turn, which round differently"]
        of_tracker = self._tracker.warning if self._tracker is not None else None
        return [
            *(changed if len(self._workers) > 1 else []),
            *([exactness.warning(inexact)] if inexact else []),
            *([of_tracker] if of_tracker else []),
            *(f"{one}; the epochs before and after are of different code" for one in self._edited),
            *self._noted,
        ]

    def _cost(self, history: Sequence[Record]) -> Cost:
        trained = sum(record.seconds for record in history)
        evaluated = sum(record.eval_seconds for record in history)
        compute = self.trainer.compute
        return Cost(
            seconds=trained + evaluated,
            train_seconds=trained,
            peak_memory_bytes=compute.peak_memory(),
            device=compute.name(),
            threads=torch.get_num_threads(),
            together=self._together,
            workers=max(self._workers),
            host=socket.gethostname(),
            gpu_share=1.0 if compute.device.type == "cpu" else self.trial.gpu_share,
        )

    def _teacher_record(self) -> TeacherRecord | None:
        teacher = self.teacher
        if teacher is None:
            return None
        return TeacherRecord(
            name=teacher.name,
            source=teacher.source,
            key=teacher.key,
            parameters=teacher.parameters,
            metrics=dict(teacher.metrics),
        )

    def _best(self, history: Sequence[Record]) -> list[Best]:
        parts: list[Part] = (
            ["validation", "test"] if self.experiment.evaluation.test == "every_epoch" else ["validation"]
        )
        return [best for part in parts for best in _best(history, part, self._facts.headline)]


def _data_record(task: Task) -> DataRecord:
    facts, digest = task.facts(), task.fingerprint()[:16]
    return DataRecord(inputs=[*facts.inputs], outputs=facts.outputs, samples=list(facts.samples), fingerprint=digest)


def _plan_record(plan: ReviewPlan | None) -> PlanRecord:
    return PlanRecord() if plan is None else PlanRecord(memorize=[*plan.memory_epochs], review=[*plan.review_epochs])


def _best(history: Sequence[Record], part: Part, metric: Metric) -> list[Best]:
    """Return the epoch with the best value of a metric on a part; of equal epochs, the first."""
    name, other = measured(part, metric), other_part(part, metric.name)
    values = {
        record.epoch: record.numbers[name] for record in history if math.isfinite(record.numbers.get(name, math.nan))
    }
    if not values:
        return []
    best = metric.best(values.values())
    record = next(record for record in history if values.get(record.epoch) == best)
    also = {other: record.numbers[other]} if part == "validation" and other in record.numbers else {}
    return [Best.of(record.epoch, part, metric.name, best, also)]


def _review_warnings(history: Sequence[Record]) -> list[str]:
    """Return a warning if the review's gradient stayed small compared with the gradient of all other losses."""
    reviews = [record.numbers for record in history if record.numbers.get("lambda")]
    shares = [numbers["grad_norm_review"] / max(numbers["grad_norm_others"], 1e-12) for numbers in reviews]
    if not shares or max(shares) >= SILENT_SHARE:
        return []
    return [
        f"review: its gradient was under {100 * SILENT_SHARE:g} % of the other losses' gradient at the first batch of"
        " every review, so the review hardly changed the student; raise lambda, or set lambda: {auto: 0.1}"
    ]
