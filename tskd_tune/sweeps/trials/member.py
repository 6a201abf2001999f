"""The trainings of one point in a trial: its seeds train in lockstep, and end together.

In an exact grid a point of a trial trains one seed. Under a searcher or a scheduler it trains all seeds, because both
compare means over seeds.
"""

from __future__ import annotations

import logging
from functools import cached_property, partial

from tskd_tune.errors import RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.teacher import obtain
from tskd_tune.plain import Document
from tskd_tune.records.entries.row import Row
from tskd_tune.records.entries.teacher_names import under
from tskd_tune.records.sessions.breakage import Breakage, broken_row
from tskd_tune.records.sessions.session import Session, Trial
from tskd_tune.records.sessions.workplace import Workplace
from tskd_tune.records.wandb.tracking import WandbTracker
from tskd_tune.sweeps.messages.results import TrialResult
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.objectives import means, worst
from tskd_tune.sweeps.trials.kept import Kept, taken_up
from tskd_tune.sweeps.trials.placing import placed
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.training.group import Group
from tskd_tune.training.teachers import TeacherCache, TeacherFile

LOG = logging.getLogger(__name__)
PATIENCE = 1.0
"""Seconds that a trial waits for W&B at its end; then the next trial begins, and the rest is sent beside it."""


class Member:
    """One point of a trial, with the training of each of its seeds.

    Attributes:
        given: what is trained.
        sessions: the trainings; none after `close`.
        at: the seed that was built or took a step last, for the report if it breaks.
        broken: the seed that broke, and why; None if none did.
        ended: whether the point has reported its rows.
    """

    def __init__(self, given: TrialConfig, shipped: Shipped) -> None:
        """Train ``given``; `build` makes the trainings."""
        self.given = given
        self.sessions: list[Session] = []
        self.at = given.seeds[0]
        self.broken: tuple[int, Breakage] | None = None
        self.ended = False
        self._shipped = shipped
        self._group: Group | None = None
        self._tracked: list[str] = []  # the ids of the W&B runs
        self._kept: list[Kept] = []
        self._begun = False
        self._restored = False
        self._told = -1  # the last epoch that was reported
        self._damage: list[str] = []

    @cached_property
    def _place(self) -> Workplace | None:
        return None if self._shipped.run is None else Workplace.of(self._shipped.run)

    def build(self, group: Group | None = None) -> None:
        """Build every training, and go on from its newest whole checkpoint; the workers of a group share each batch."""
        place, self._group = self._place, group
        for seed in self.given.seeds:
            self.at = seed
            if place is None:
                self.sessions.append(self._session(seed))
                continue
            session, damage = taken_up(partial(self._session, seed), place)
            self.sessions.append(session)
            self._kept.append(Kept(place, session))
            self._damage += [damage] if damage else []
        histories = [session.trainer.history for session in self._going()]
        self._restored = len(histories) < len(self.sessions) or all(histories)

    def begin(self) -> list[Session]:
        """Return the trainings that train an epoch now; at first start the trackers.

        Where all were restored, none trains: they first repeat their last epoch, which the driver may not have
        recorded. Checkpoints may differ in their epochs, so trainings that are behind catch up.
        """
        if not self._begun:
            for session in self.sessions:
                session.begin()
            self._begun = True
        if self._restored:
            return []
        epoch = self._last() + 1
        return [one for one in self.sessions if not one.finished and one.trainer.next_epoch == epoch]

    @property
    def trained(self) -> int:
        """The number of epochs that every training has trained."""
        return self._last() + 1

    @property
    def goes_on(self) -> bool:
        """Whether every training has an epoch to train, and none has ended."""
        return self.broken is None and not self._restored and not any(session.finished for session in self.sessions)

    def offer(self) -> None:
        """Write a checkpoint of each training, if it is time for one.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        if self._restored:
            return
        for session, kept in zip(self.sessions, self._kept, strict=False):
            self.at = session.experiment.seed
            if not session.finished:
                kept.offer(session)

    def report(self) -> TrialResult:
        """Report the epochs since the last report that every training has, and the rows at the end.

        Raises:
            RunError: a file could not be written.
        """
        restored, self._restored = self._restored, False
        last = self._last()
        found = self._reported(last, since=0 if restored else min(self._told + 1, last))
        self._told = last
        self.ended = found.done
        return found

    @property
    def has_news(self) -> bool:
        """Whether every training was built and has epochs that were not reported."""
        return len(self._going()) == len(self.given.seeds) and self._last() > self._told

    def report_epochs(self) -> TrialResult:
        """Report the epochs since the last report, and no end: the trial is about to be tried again."""
        last, since = self._last(), self._told + 1
        histories = [session.trainer.history for session in self._going()]
        self._told = last
        return TrialResult(
            epoch=last,
            epochs=self.sessions[0].experiment.training.epochs,
            rows=[],
            numbers=means([history[last].plain() for history in histories]),
            records=[record for history in histories for record in history[since : last + 1]],
            notes=self._notes(),
        )

    def report_broken(self) -> TrialResult:
        """Report a row for every seed of a point that broke."""
        assert self.broken is not None
        seed, broke = self.broken
        reasons = {each: broken_reason(each, seed, broke.reason) for each in self.given.seeds}
        rows = [self._broken_row(each, reason) for each, reason in reasons.items()]
        self.ended = True
        return TrialResult(
            epoch=max(row.epochs for row in rows) - 1,
            epochs=rows[0].epochs_planned,
            rows=[row.plain() for row in rows],
            numbers={self._shipped.metric: worst(self._shipped.mode)},
            notes=self._notes(),
            done=True,
            failed=broke.reason,
            broke=True,
            error=broke.text,
        )

    def rows_now(self) -> list[Document]:
        """End the tracking, write a checkpoint of each training, and return its present row."""
        for session in self.sessions:
            session.close()
        for session, kept in zip(self.sessions, self._kept, strict=False):
            kept.finish(session)
        return [session.row().plain() for session in self.sessions]

    def close(self) -> None:
        """End the tracking, wait for the last checkpoints, and let the trainings go."""
        for session in self.sessions:
            session.close()
        for kept in self._kept:
            kept.close()
        self._keep_wandb()
        self.sessions, self._kept = [], []

    def _going(self) -> list[Session]:
        return [session for session in self.sessions if session.failure is None]

    def _last(self) -> int:
        """Return the last epoch that every training has, from 0; -1 before the first."""
        return min((len(session.trainer.history) for session in self._going()), default=0) - 1

    def _reported(self, epoch: int, *, since: int) -> TrialResult:
        histories = [session.trainer.history for session in self._going()]
        failures = [session.failure for session in self.sessions if session.failure]
        done = bool(failures) or all(session.finished for session in self.sessions)
        records = [record for history in histories for record in history[since : epoch + 1]]
        stopped = "another seed of its trial failed" if failures else None
        metric = self._shipped.metric
        return TrialResult(
            epoch=max(len(session.trainer.history) for session in self.sessions) - 1 if failures else epoch,
            epochs=self.sessions[0].experiment.training.epochs,
            rows=self._ended_rows(stopped) if done else [],
            numbers={metric: worst(self._shipped.mode)}
            if failures
            else means([history[epoch].plain() for history in histories]),
            records=records,
            notes=self._notes(),
            done=done,
            failed=failures[0] if failures else None,
        )

    def _ended_rows(self, stopped: str | None) -> list[Document]:
        """Write what a point that has ended leaves, and return its rows."""
        for session in self.sessions:
            session.close()  # before the row, which has the state of the tracking
        for session, kept in zip(self.sessions, self._kept, strict=False):
            self.at = session.experiment.seed
            kept.finish(session)
        self._keep_wandb()
        return [session.row(stopped).plain() for session in self.sessions]

    def _keep_wandb(self) -> None:
        """Bring W&B's offline files to the storage of the run; they are not worth a training."""
        if self._place is None:
            return
        try:
            for name in self._tracked:
                self._place.upload_wandb(name)
        except RunError as error:
            LOG.warning("W&B's offline files stay on this machine: %s", error)

    def _broken_row(self, seed: int, reason: str) -> Row:
        for session in self.sessions:
            if session.experiment.seed == seed:
                session.break_off(reason)
                session.close()
                return session.row()
        given = self.given
        named = {"run": given.run, "arm": given.arm, "identity": given.identity}
        return broken_row(given.experiment, seed, [], reason, point=given.point, **named)

    def _notes(self) -> list[str]:
        """Return the sentences for the user that were not reported yet."""
        notes, self._damage = self._damage, []
        return notes

    def _session(self, seed: int) -> Session:
        given, shipped = self.given, self._shipped
        experiment = Experiment.read({**given.experiment, "seed": seed})
        tracker = None
        if shipped.folder is not None:
            tracker = WandbTracker(
                shipped.folder if self._place is None else self._place.folder,
                sweep=shipped.sweep,
                run=given.run,
                seed=seed,
                arm=given.arm,
                under=under(given.point),
                name=given.identity if shipped.by_identity else None,
                place=shipped.place,
                patience=PATIENCE,
                key=shipped.key,
                connection=shipped.connection,
            )
            self._tracked.append(tracker.identity["id"])
        trial = Trial(given.run, given.arm, given.point, given.identity, shipped.gpu_share)
        return Session(experiment, self._teacher(experiment), trial, tracker, group=self._group)

    def _teacher(self, experiment: Experiment) -> TeacherFile | None:
        key, teachers = self.given.teacher, self._shipped.teachers
        if key is None or key not in teachers:
            return obtain(experiment, TeacherCache(), progress=lambda record: None)
        return placed(*teachers[key])


def broken_reason(seed: int, broke: int, reason: str) -> str:
    """Return why a seed broke: by its own error, or because another seed of its trial broke."""
    return reason if seed == broke else f"seed {broke} of its trial broke: {reason}"
