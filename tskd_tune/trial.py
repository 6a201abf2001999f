"""One Ray Tune trial: its seeds train in lockstep, epoch by epoch, and what it reports is their mean.

In an exact grid a trial has one seed. Under a searcher or a scheduler it has all of them, so that means are
judged and not single trainings.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ray import tune

from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import TeacherFile
from tskd_tune.experiment.teacher import obtain
from tskd_tune.files import write_whole
from tskd_tune.records.session import Identity, Session
from tskd_tune.records.tracking import Connection, Place, WandbTracker
from tskd_tune.training import checkpoint
from tskd_tune.training.teachers import TeacherCache

# What a diverged trial reports to the searcher and the scheduler in place of a metric: worse than any other.
WORST = {"max": -1e9, "min": 1e9}
STATE = "state-seed{seed}.pt"
STUDENT = "student-seed{seed}.pth"


@dataclass(frozen=True)
class TrialConfig:
    """What one trial is to train, as plain data in Ray Tune's config.

    Attributes:
        number: its place among the sweep's trials, which names its folder.
        arm: the label of the point.
        point: hole -> sampled value.
        experiment: the resolved experiment, without its seed.
        seeds: the seeds that train in lockstep.
        teacher: the key of its teacher among those that the sweep ships; None where it needs none of them.
    """

    number: int
    arm: str
    point: dict[str, Any]
    experiment: dict[str, Any]
    seeds: list[int]
    teacher: str | None

    @property
    def run(self) -> str:
        """The name of the trial: of its folder, in rows and in W&B."""
        return f"{self.number:05d}"


@dataclass(frozen=True)
class Shipped:
    """What a sweep sends to every trial: where it stands, what is judged, and the teachers' files.

    Attributes:
        folder: the run's folder, for W&B's offline files; None tracks nothing.
        teachers: key -> the teacher and the content of its file, for machines that do not share a cache.
        place: where W&B runs go.
        key: what tells this sweep's W&B runs from those of any other.
        connection: what one look at W&B's server found.
    """

    sweep: str
    folder: Path | None
    metric: str
    mode: str
    teachers: Mapping[str, tuple[TeacherFile, bytes]]
    place: Place = field(default_factory=Place)
    key: str | None = None
    connection: Connection | None = None


class SweepTrial(tune.Trainable):
    """Trains a point of the search space, once a seed."""

    sessions: list[Session]

    def setup(self, config: dict[str, Any], shipped: Shipped | None = None) -> None:
        """Build the trainings of a config; what the sweep ships comes by `ray.tune.with_parameters`."""
        assert shipped is not None
        # Ray's workers inherit the driver's environment; W&B shall not ask this one for a key.
        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        self.shipped = shipped
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process, which saves starting a new one."""
        self.cleanup()
        self._open(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch of every seed and report their mean.

        Returns:
            ``records`` (a history line a seed), ``rows`` (each training's account as it stands), the means of
            what was measured, ``epoch``, ``epochs``, ``done``, and ``failed`` with the reason of a divergence.
        """
        self._begin()
        records = [record for session in self.sessions if (record := _next_record(session)) is not None]
        failures = [session.failure for session in self.sessions if session.failure]
        done = bool(failures) or all(session.finished for session in self.sessions)
        if done:  # so that the rows say what became of the tracking
            for session in self.sessions:
                session.close()
        stopped = "another seed of its trial failed" if failures else None
        rows = [session.row(stopped) for session in self.sessions]
        result: dict[str, Any] = {
            "epoch": max(len(session.trainer.history) for session in self.sessions) - 1,
            "epochs": self.sessions[0].experiment.training.epochs,
            "records": records,
            "rows": [row.plain() for row in rows],
            "done": done,
        }
        if failures:
            return {**result, "failed": failures[0], self.shipped.metric: WORST[self.shipped.mode]}
        return {**result, **_means(records)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save every training, and the students of finished ones in the field's layout."""
        for session in self.sessions:
            seed = session.experiment.seed
            checkpoint.save(session.state_dict(), Path(checkpoint_dir) / STATE.format(seed=seed))
            if session.finished and session.failure is None:
                session.write_student(Path(checkpoint_dir) / STUDENT.format(seed=seed))

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Go back to the end of the epoch at which the checkpoint was made.

        Raises:
            RunError: the checkpoint is not whole; then nothing was loaded.
        """
        paths = [Path(checkpoint_dir) / STATE.format(seed=session.experiment.seed) for session in self.sessions]
        states = [checkpoint.load(path) for path in paths]
        for session, state in zip(self.sessions, states, strict=True):
            session.load_state_dict(state)
        # Tune counts on from what it noted, which is behind where a newer checkpoint was found.
        self._iteration = max(len(session.trainer.history) for session in self.sessions)

    def restore(self, checkpoint_path: Any) -> None:
        """Go back to a checkpoint, or to the newest whole one beside it if it is gone or damaged.

        A driver that is killed may have replaced a checkpoint without noting the new one. An epoch can be trained
        twice, so going on from any checkpoint ends where the unbroken run ends; without any the trial starts anew.
        """
        named = Path(getattr(checkpoint_path, "checkpoint", checkpoint_path).path)
        if named.exists():
            with suppress(RunError):
                super().restore(checkpoint_path)
                return
        for other in sorted(named.parent.glob("checkpoint_*"), reverse=True):
            with suppress(RunError):
                self.load_checkpoint(other)
                return

    def cleanup(self) -> None:
        """End the tracking of every training."""
        for session in self.sessions:
            session.close()
        self.sessions = []

    def _open(self, config: dict[str, Any]) -> None:
        self.sessions = []
        self._begun = False
        given = TrialConfig(**config)
        self.sessions = [self._session(given, seed) for seed in given.seeds]

    def _begin(self) -> None:
        """Start the trackers at the first step, when a resume has loaded its state."""
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
                place=self.shipped.place,
                key=self.shipped.key,
                connection=self.shipped.connection,
            )
        identity = Identity(given.run, given.arm, given.point)
        return Session(experiment, self._teacher(given, experiment), identity, tracker)

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
    """Tell whether a file is there and has this content; one that is damaged, or was changed, has not."""
    return path.is_file() and path.read_bytes() == content


def _next_record(session: Session) -> dict[str, Any] | None:
    """Train an epoch; a training that was restored at its end repeats its last record instead."""
    return session.trainer.history[-1] if session.finished else session.epoch()


def _means(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means over the seeds of every number that was measured."""
    numbers = [name for name, value in records[0].items() if isinstance(value, float)]
    return {name: fmean(record[name] for record in records) for name in numbers if all(name in r for r in records)}
