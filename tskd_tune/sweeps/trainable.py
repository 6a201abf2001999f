"""One Ray Tune trial: its seeds train in lockstep, step by step, and after each epoch the trial reports their mean.

In an exact grid a trial trains one seed. Under a searcher or a scheduler it trains all seeds, because both compare
means over seeds.

If a component raises an exception, the trial ends with a row that names the exception. The trial is not tried again: a
training is exact, so the same exception would come again. Errors that may be temporary (too little memory, a lost file
system, an error of the GPU) are raised for Ray Tune, which tries again in a new process, as after a killed worker.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ray import tune

from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.files import write_whole
from tskd_tune.plain import Document
from tskd_tune.records.breakage import Breakage, breakage, broken_row
from tskd_tune.records.row import Row
from tskd_tune.records.session import Session, Trial
from tskd_tune.records.tracking import WandbTracker
from tskd_tune.records.wandb_server import Connection, Place
from tskd_tune.sweeps.kept import Kept, taken_up
from tskd_tune.sweeps.objectives import means, worst
from tskd_tune.sweeps.results import TrialResult
from tskd_tune.sweeps.trial_config import TrialConfig
from tskd_tune.training.lockstep import advance
from tskd_tune.training.teachers import TeacherCache, TeacherFile
from tskd_tune.training.trainer import Trainer

# In Ray Tune's checkpoint of a trial: the rows of a trial that the scheduler has stopped.
STOPPED_ROWS = "rows.json"


@dataclass(frozen=True)
class Shipped:
    """What a sweep sends to every trial: the run's folder, the metric that is compared, and the teachers' files.

    Attributes:
        folder: the run's folder, for W&B's offline files; None for no tracking.
        teachers: key -> the teacher and the content of its file, for machines that do not share a cache.
        place: where W&B runs go.
        key: a text that separates this sweep's W&B runs from the runs of other sweeps.
        connection: the result of probing W&B's server once.
        run: the run's folder, for checkpoints and students; None for none.
        by_identity: whether W&B runs are named by the identity of their training; otherwise by the trial's id.
    """

    sweep: str
    folder: Path | None
    metric: str
    mode: str
    teachers: Mapping[str, tuple[TeacherFile, bytes]]
    place: Place = field(default_factory=Place)
    key: str | None = None
    connection: Connection | None = None
    run: Path | None = None
    by_identity: bool = True


class BrokenTrialError(RunError):
    """An error that breaks a trial. Ray Tune sends it to the driver, with the seed, the reason and the whole error."""

    def __init__(self, seed: int, reason: str, text: str) -> None:
        """Keep the facts that the driver records."""
        super().__init__(seed, reason, text)
        self.seed, self.reason, self.text = seed, reason, text


class SweepTrial(tune.Trainable):
    """Trains a point of the search space once with each of its seeds."""

    sessions: list[Session]
    _kept: list[Kept]
    _broken: tuple[int, Breakage] | None
    _damage: list[str]

    def setup(self, config: Document, shipped: Shipped | None = None) -> None:
        """Build the trainings of a config; `ray.tune.with_parameters` passes what the sweep ships."""
        assert shipped is not None
        # Ray's workers inherit the driver's environment; W&B must not ask a worker for a key.
        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        self.shipped = shipped
        self._open(config)

    def reset_config(self, new_config: Document) -> bool:
        """Train another trial in the same process, which saves the start of a new process."""
        self.cleanup()
        self._open(new_config)
        return True

    def step(self) -> Document:
        """Train one epoch of every seed and report their mean.

        Returns:
            A `TrialResult` as plain data.

        Raises:
            BrokenTrialError: the trial broke by an error that may be temporary; Ray Tune tries again.
        """
        if self._broken is None:
            try:
                return self._epoch().plain()
            except (Exception, SystemExit) as error:
                self._broken = (self._at, breakage(error))
        return self._account_of_breakage(*self._broken).plain()

    def _epoch(self) -> TrialResult:
        self._begin()
        restored, self._restored = self._restored, False
        last = min((len(session.trainer.history) for session in self._going()), default=0) - 1
        if restored:  # a restored trial first repeats its last epoch, which the driver may not have recorded
            return self._reported(last, since=0)
        self._train(last + 1)
        return self._reported(last + 1, since=last + 1)

    def _going(self) -> list[Session]:
        return [session for session in self.sessions if session.failure is None]

    def _train(self, epoch: int) -> None:
        """Train an epoch of each training that has not trained it; checkpoints may differ in their epochs."""
        behind = [session for session in self.sessions if not session.finished]
        advance([one.trainer for one in behind if one.trainer.next_epoch == epoch], self._take_turn)
        for session, kept in zip(self.sessions, self._kept, strict=False):
            if not session.finished:
                kept.offer(session)

    def _reported(self, epoch: int, *, since: int) -> TrialResult:
        """Report an epoch that every training has, with the records since another one, and the rows at the end."""
        histories = [session.trainer.history for session in self._going()]
        failures = [session.failure for session in self.sessions if session.failure]
        done = bool(failures) or all(session.finished for session in self.sessions)
        records = [record for history in histories for record in history[since : epoch + 1]]
        stopped = "another seed of its trial failed" if failures else None
        metric = self.shipped.metric
        return TrialResult(
            epoch=max(len(session.trainer.history) for session in self.sessions) - 1 if failures else epoch,
            epochs=self.sessions[0].experiment.training.epochs,
            rows=self._ended_rows(stopped) if done else [],
            numbers={metric: worst(self.shipped.mode)}
            if failures
            else means([history[epoch].plain() for history in histories]),
            records=records,
            notes=self._notes(),
            done=done,
            failed=failures[0] if failures else None,
        )

    def _ended_rows(self, stopped: str | None) -> list[Document]:
        """Write what a trial that has ended leaves, and return its rows."""
        for session in self.sessions:
            session.close()  # before the row, which has the state of the tracking
        for session, kept in zip(self.sessions, self._kept, strict=False):
            kept.finish(session)
        return [session.row(stopped).plain() for session in self.sessions]

    def _account_of_breakage(self, seed: int, broke: Breakage) -> TrialResult:
        """Report a row for every seed of a trial that broke, or let Ray Tune try again."""
        if broke.passing:
            raise BrokenTrialError(seed, broke.reason, broke.text)
        reasons = {each: broken_reason(each, seed, broke.reason) for each in self._given.seeds}
        rows = [self._broken_row(each, reason) for each, reason in reasons.items()]
        return TrialResult(
            epoch=max(row.epochs for row in rows) - 1,
            epochs=rows[0].epochs_planned,
            rows=[row.plain() for row in rows],
            numbers={self.shipped.metric: worst(self.shipped.mode)},
            notes=self._notes(),
            done=True,
            failed=broke.reason,
            broke=True,
            error=broke.text,
        )

    def _broken_row(self, seed: int, reason: str) -> Row:
        for session in self.sessions:
            if session.experiment.seed == seed:
                session.break_off(reason)
                session.close()
                return session.row()
        given = self._given
        named = {"run": given.run, "arm": given.arm, "identity": given.identity}
        return broken_row(given.experiment, seed, [], reason, point=given.point, **named)

    def _notes(self) -> list[str]:
        """Return the sentences for the user that were not reported yet."""
        notes, self._damage = self._damage, []
        return notes

    def _take_turn(self, trainer: Trainer) -> None:
        """Note whose step comes next, for the report if it breaks."""
        self._at = trainer.schedule.seed

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the rows of a trial that the scheduler stops; `Recorder` asks for them.

        Checkpoints of the trainings are written by the trial itself, so Ray Tune keeps none and restores none.
        """
        for session in self.sessions:
            session.close()
        rows = [session.row().plain() for session in self.sessions]
        (Path(checkpoint_dir) / STOPPED_ROWS).write_text(json.dumps(rows), encoding="utf-8")

    def load_checkpoint(self, checkpoint_dir: object) -> None:
        """Load nothing: `setup` has taken up the checkpoints of the trainings."""

    def cleanup(self) -> None:
        """End the tracking of every training, and wait for the last checkpoints."""
        for session in self.sessions:
            session.close()
        for kept in self._kept:
            kept.close()
        self.sessions, self._kept = [], []

    def _open(self, config: Document) -> None:
        self.sessions = []
        self._kept = []
        self._begun = False
        self._restored = False
        self._broken = None
        self._damage = []
        self._given = given = TrialConfig(**config)
        self._at = given.seeds[0]
        try:
            self._build()
        except (Exception, SystemExit) as error:  # `step` reports it; Tune would not report it here
            self._broken = (self._at, breakage(error))

    def _build(self) -> None:
        run = self.shipped.run
        for seed in self._given.seeds:
            self._at = seed
            if run is None:
                self.sessions.append(self._session(self._given, seed))
                continue
            session, damage = taken_up(partial(self._session, self._given, seed), run)
            self.sessions.append(session)
            self._kept.append(Kept(run, session))
            self._damage += [damage] if damage else []
        histories = [session.trainer.history for session in self._going()]
        self._restored = len(histories) < len(self.sessions) or all(histories)

    def _begin(self) -> None:
        """Start the trackers at the first step, after a resume has loaded its state."""
        if not self._begun:
            for session in self.sessions:
                session.begin()
            self._begun = True

    def _session(self, given: TrialConfig, seed: int) -> Session:
        experiment = Experiment.read({**given.experiment, "seed": seed})
        tracker = None
        if self.shipped.folder is not None:
            tracker = WandbTracker(
                self.shipped.folder,
                sweep=self.shipped.sweep,
                run=given.run,
                seed=seed,
                arm=given.arm,
                name=given.identity if self.shipped.by_identity else None,
                place=self.shipped.place,
                key=self.shipped.key,
                connection=self.shipped.connection,
            )
        trial = Trial(given.run, given.arm, given.point, given.identity)
        return Session(experiment, self._teacher(given, experiment), trial, tracker)

    def _teacher(self, given: TrialConfig, experiment: Experiment) -> TeacherFile | None:
        if given.teacher is None or given.teacher not in self.shipped.teachers:
            return obtain(experiment, TeacherCache(), progress=lambda record: None)
        teacher, content = self.shipped.teachers[given.teacher]
        assert teacher.path is not None and teacher.key is not None
        if _holds(teacher.path, content):
            return teacher
        path = TeacherCache().path(teacher.key)
        if not _holds(path, content):
            write_whole(path, content)
        return replace(teacher, path=path)


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file exists and has this content."""
    return path.is_file() and path.read_bytes() == content


def broken_reason(seed: int, broke: int, reason: str) -> str:
    """Return why a seed broke: by its own error, or because another seed of its trial broke."""
    return reason if seed == broke else f"seed {broke} of its trial broke: {reason}"
