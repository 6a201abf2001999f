"""One Ray Tune trial: its seeds train in lockstep, step by step, and after each epoch the trial reports their mean.

In an exact grid a trial trains one seed. Under a searcher or a scheduler it trains all seeds, because both compare
means over seeds.

If a component raises an exception, the trial ends with a row that names the exception. The trial is not tried again: a
training is exact, so the same exception would come again. Errors that may be temporary (too little memory, a lost file
system, an error of the GPU) are raised for Ray Tune, which tries again in a new process, as after a killed worker.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune

from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.files import write_whole
from tskd_tune.plain import Document
from tskd_tune.records.breakage import Breakage, breakage, broken_row, reason_of
from tskd_tune.records.row import Row
from tskd_tune.records.session import Session, Trial
from tskd_tune.records.tracking import WandbTracker
from tskd_tune.records.wandb_server import Connection, Place
from tskd_tune.sweeps.objectives import means, worst
from tskd_tune.sweeps.results import TrialResult
from tskd_tune.sweeps.trial_config import TrialConfig
from tskd_tune.training import checkpoint
from tskd_tune.training.lockstep import advance
from tskd_tune.training.teachers import TeacherCache, TeacherFile
from tskd_tune.training.trainer import Trainer

# A trial's checkpoint holds a state for each of its trainings, by identity and seed.
STATES = "state-*.pt"
STUDENT = "student-seed{seed}.pth"


@dataclass(frozen=True)
class Shipped:
    """What a sweep sends to every trial: the run's folder, the metric that is compared, and the teachers' files.

    Attributes:
        folder: the run's folder, for W&B's offline files; None for no tracking.
        teachers: key -> the teacher and the content of its file, for machines that do not share a cache.
        place: where W&B runs go.
        key: a text that separates this sweep's W&B runs from the runs of other sweeps.
        connection: the result of probing W&B's server once.
        trials: the folder of the trials' folders, where an earlier process may have left checkpoints; None for none.
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
    trials: Path | None = None
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
    _broken: tuple[int, Breakage] | None
    _taken_up: list[str]

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
        advance([session.trainer for session in self.sessions if not session.finished], self._take_turn)
        # A training that was restored at its end repeats its last record.
        records = [session.trainer.history[-1] for session in self.sessions if session.failure is None]
        failures = [session.failure for session in self.sessions if session.failure]
        done = bool(failures) or all(session.finished for session in self.sessions)
        if done:  # so that the rows contain the state of the tracking
            for session in self.sessions:
                session.close()
        stopped = "another seed of its trial failed" if failures else None
        metric, numbers = self.shipped.metric, [record.plain() for record in records]
        return TrialResult(
            epoch=max(len(session.trainer.history) for session in self.sessions) - 1,
            epochs=self.sessions[0].experiment.training.epochs,
            rows=[session.row(stopped).plain() for session in self.sessions],
            numbers={metric: worst(self.shipped.mode)} if failures else means(numbers),
            records=records,
            notes=self._notes(),
            done=done,
            failed=failures[0] if failures else None,
        )

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
        notes, self._taken_up = self._taken_up, []
        return notes

    def _take_turn(self, trainer: Trainer) -> None:
        """Note whose step comes next, for the report if it breaks."""
        self._at = trainer.schedule.seed

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save every training, and the students of finished trainings in the field's usual checkpoint layout.

        The state of a broken epoch is not saved, so a resume goes on from the last whole epoch.
        """
        if self._broken is not None:
            (Path(checkpoint_dir) / "broke.txt").write_text(self._broken[1].text, encoding="utf-8")
            return
        for session in self.sessions:
            seed = session.experiment.seed
            checkpoint.save(session.state_dict(), Path(checkpoint_dir) / _state(session))
            if session.finished and session.failure is None:
                session.write_student(Path(checkpoint_dir) / STUDENT.format(seed=seed))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Go back to the end of the epoch at which the checkpoint was made.

        Raises:
            RunError: the checkpoint is not whole; then nothing was loaded.
        """
        if self._broken is not None:
            return
        paths = [_state_in(Path(checkpoint_dir), session) for session in self.sessions]
        states = [checkpoint.load(path) for path in paths]
        for session, state in zip(self.sessions, states, strict=True):
            session.load_state_dict(state)

    def restore(self, checkpoint_path: Any) -> None:
        """Load a checkpoint; if it is missing or damaged, load the newest whole checkpoint of the trial.

        A driver that was killed may have replaced a checkpoint without recording the new one. An epoch that is trained
        again gives the same result, so any checkpoint will do. Without a checkpoint the trial starts from epoch 0.
        """
        named = Path(getattr(checkpoint_path, "checkpoint", checkpoint_path).path)
        if self._broken is not None:
            return
        if named.exists():
            with suppress(Exception):  # a damaged file may raise any exception
                super().restore(checkpoint_path)
                return
            self._build()
        self._take_up(named.parent)

    def cleanup(self) -> None:
        """End the tracking of every training."""
        for session in self.sessions:
            session.close()
        self.sessions = []

    def _open(self, config: Document) -> None:
        self.sessions = []
        self._begun = False
        self._broken = None
        self._taken_up = []
        self._given = given = TrialConfig(**config)
        self._at = given.seeds[0]
        try:
            self._build()
            if self.shipped.trials is not None:
                self._take_up(self.shipped.trials / given.run)
        except (Exception, SystemExit) as error:  # `step` reports it; Tune would not report it here
            self._broken = (self._at, breakage(error))

    def _build(self) -> None:
        self.sessions = []
        for seed in self._given.seeds:
            self._at = seed
            self.sessions.append(self._session(self._given, seed))

    def _take_up(self, folder: Path) -> None:
        """Go on from the newest whole checkpoint of an earlier process, if there is one."""
        damaged: list[str] = []
        for path in sorted(folder.glob("checkpoint_*"), reverse=True):
            if not list(path.glob(STATES)):
                continue  # left by a trial that broke
            try:
                self.load_checkpoint(path)
                break
            except Exception as error:  # a damaged file may raise any exception
                damaged.append(f"{path.name} is damaged ({reason_of(error)})")
                self._build()
        if damaged:
            epochs = max(len(session.trainer.history) for session in self.sessions)
            on = f"it goes on after {epochs} epochs" if epochs else "it starts anew"
            self._taken_up = [f"{folder}: {'; '.join(damaged)}; {on}"]

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


def _state(session: Session) -> str:
    return f"state-{session.identity}-seed{session.experiment.seed}.pt"


def _state_in(folder: Path, session: Session) -> Path:
    """Return the file of a training's state in a checkpoint; before format 2 only the seed named the file."""
    path = folder / _state(session)
    return path if path.exists() else folder / f"state-seed{session.experiment.seed}.pt"


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file exists and has this content."""
    return path.is_file() and path.read_bytes() == content


def broken_reason(seed: int, broke: int, reason: str) -> str:
    """Return why a seed broke: by its own error, or because another seed of its trial broke."""
    return reason if seed == broke else f"seed {broke} of its trial broke: {reason}"
