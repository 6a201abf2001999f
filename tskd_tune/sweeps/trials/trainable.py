"""One Ray Tune trial: its trainings advance in one process, step by step in turns, and report after each epoch.

A trial trains one point of the search space, or a bundle of them (`tskd_tune.sweeps.trials.bundles`). A point ends when
its own trainings have ended; then it reports its rows and frees its memory, and the others go on.

If a component raises an exception, the point of the training ends with a row that names the exception. It is not tried
again: a training is exact, so the same exception would come again. Errors that may be temporary (too little memory, a
lost file system, an error of the GPU) are raised for Ray Tune, which tries the whole trial again in a new process, as
after a killed worker: each training then goes on from its checkpoint.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from ray import tune

from tskd_tune.errors import DivergedError
from tskd_tune.plain import Document
from tskd_tune.records.sessions.breakage import breakage
from tskd_tune.records.sessions.session import Session
from tskd_tune.records.wandb.tracking import settle
from tskd_tune.sweeps.machines.late_nodes import refuse_here
from tskd_tune.sweeps.messages.results import TrialResult
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.messages.trial_errors import BrokenTrialError, UnfitNodeError
from tskd_tune.sweeps.on_ray import ray_private
from tskd_tune.sweeps.trials.bundles import reported
from tskd_tune.sweeps.trials.kept import keep_stopped
from tskd_tune.sweeps.trials.member import Member
from tskd_tune.sweeps.trials.shipped import Shipped
from tskd_tune.sweeps.trials.team import Team
from tskd_tune.training.lockstep import advance
from tskd_tune.training.trainer import Trainer

T = TypeVar("T")

# In Ray Tune's checkpoint of a trial: the rows of a trial that the scheduler has stopped.
STOPPED_ROWS = "rows.json"


SETTLE_SECONDS = 8.0
"""Seconds that a process waits for W&B at its end; after ten Ray Tune would kill the process."""


class SweepTrial(tune.Trainable):
    """Trains a point of the search space with each of its seeds, or a bundle of points, in turns."""

    members: list[Member]
    _team: Team | None = None
    _turns: dict[Trainer, Member]
    _at: Member
    _unfit: UnfitNodeError | None
    _passing: BrokenTrialError | None  # what the next step raises, after this one reported its epochs

    def setup(self, config: Document, shipped: Shipped | None = None) -> None:
        """Build the trainings of a config; `ray.tune.with_parameters` passes what the sweep ships."""
        assert shipped is not None
        self._team = Team(shipped) if shipped.workers > 1 else None
        # Ray's workers inherit the driver's environment; W&B must not ask a worker for a key.
        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").setLevel(logging.ERROR)
        self.shipped = shipped
        self._open(config)

    def reset_config(self, new_config: Document) -> bool:
        """Train another trial in the same process, which saves the start of a new process."""
        self._close()
        self._open(new_config)
        return True

    @property
    def sessions(self) -> list[Session]:
        """The trainings whose memory is not freed yet."""
        return [session for member in self.members for session in member.sessions]

    def step(self) -> Document:
        """Train one epoch of every training, or short epochs for a while (``Shipped.report_seconds``), and report.

        After an epoch that is awaited (``Shipped.awaited``) it reports at once.

        Returns:
            A `TrialResult` as plain data; of a bundle, one for each point (see `bundles.reported`).

        Raises:
            BrokenTrialError: the trial broke by an error that may be temporary; Ray Tune tries again.
            UnfitNodeError: this machine cannot train the sweep; Ray Tune tries again on another one.
        """
        if self._unfit is not None:
            raise self._unfit
        if self._passing is not None:
            raise self._passing
        live = [member for member in self.members if not member.ended]
        until = time.monotonic() + self.shipped.report_seconds
        try:
            self._train(live)
            while time.monotonic() < until and all(self._may_train_on(member) for member in live):
                self._train(live)
        except BrokenTrialError as error:
            return self._report_before(error, live)
        found = {member.given.run: self._report(member) for member in live}
        done = all(member.ended for member in self.members)
        if not done and (ended := [member for member in live if member.ended]):
            for member in ended:
                member.close()
            _free_memory()
        return reported(self._given, found, done=done)

    def _may_train_on(self, member: Member) -> bool:
        """Return whether a member may train another epoch before it reports."""
        awaited = self.shipped.awaited
        return member.goes_on and awaited is not None and member.trained not in awaited

    def _report_before(self, error: BrokenTrialError, live: Sequence[Member]) -> Document:
        """Report the epochs that are not reported yet; the next step raises the error. Without epochs, raise it now."""
        if not any(member.has_news for member in live):
            raise error
        self._passing = error
        found = {member.given.run: member.report_epochs() for member in live if member.has_news}
        return reported(self._given, found, done=False)

    def _train(self, live: Sequence[Member]) -> None:
        sharing = [(session, member) for member in live for session in self._try(member, member.begin) or []]
        self._turns = {session.trainer: member for session, member in sharing}
        for session, _ in sharing:
            session.share(len(sharing))
        self._advance()
        self._turns = {}  # which would keep the memory of a training that has ended
        for member in live:
            self._try(member, member.offer)

    def _advance(self) -> None:
        """Train an epoch of every training that has its turn."""
        trainers = list(self._turns)
        try:
            with self._team.training(trainers) if self._team is not None and trainers else nullcontext():
                results = advance(trainers, self._take_turn, self._survives)
        except (Exception, SystemExit) as error:
            self._break(self._at, error)
            self._refuse_passing(self._at)  # before a checkpoint is written in the middle of the others' epochs
            return
        for trainer, result in zip(trainers, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, DivergedError):
                self._turns[trainer].at = trainer.schedule.seed
                self._break(self._turns[trainer], result)

    def _take_turn(self, trainer: Trainer) -> None:
        """Note whose step comes next, for the report if it breaks."""
        self._at = self._turns[trainer]
        self._at.at = trainer.schedule.seed

    def _survives(self, error: BaseException) -> bool:
        """Return whether the other points of a bundle go on after an exception of one."""
        return len(self.members) > 1 and not breakage(error).passing

    def _report(self, member: Member) -> TrialResult:
        return self._try(member, member.report) or member.report_broken()

    def _try(self, member: Member, act: Callable[[], T]) -> T | None:
        """Return what ``act`` returns; None if the member broke, now or before.

        Raises:
            BrokenTrialError: the error may be temporary.
        """
        if member.broken is None:
            try:
                return act()
            except (Exception, SystemExit) as error:
                self._break(member, error)
        self._refuse_passing(member)
        return None

    def _break(self, member: Member, error: BaseException) -> None:
        found, sharing = breakage(error), len(self.members)
        if sharing > 1 and isinstance(error, MemoryError | torch.OutOfMemoryError):
            more = f"{sharing} trainings share the memory of this process: lower resources.together"
            found = replace(found, reason=f"{found.reason}; {more}")
        member.broken = member.at, found

    def _refuse_passing(self, member: Member) -> None:
        assert member.broken is not None
        seed, broke = member.broken
        if broke.passing:
            run, lost = member.given.run, broke.lost_worker
            raise BrokenTrialError(seed, broke.reason, broke.text, run, lost_worker=lost, silent=broke.silent)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the rows of a trial that the scheduler stops; `Recorder` asks for them.

        Checkpoints of the trainings are written by the trial itself, so Ray Tune keeps none and restores none.
        """
        rows = [row for member in self.members for row in member.rows_now()]
        if keep_stopped(self.shipped.run, self._given.run, rows):
            ray_private.allow_storage_here(self)
        (Path(checkpoint_dir) / STOPPED_ROWS).write_text(json.dumps(rows), encoding="utf-8")

    def load_checkpoint(self, checkpoint_dir: object) -> None:
        """Load nothing: `setup` has taken up the checkpoints of the trainings."""

    def cleanup(self) -> None:
        """End the tracking of every training, and wait for the last checkpoints and for W&B: the process ends."""
        self._close()
        if self._team is not None:
            self._team.end()
        settle(SETTLE_SECONDS)

    def _close(self) -> None:
        for member in self.members:
            member.close()
        self.members = []
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            _free_memory()

    def _open(self, config: Document) -> None:
        self._given = TrialConfig(**config)
        self._turns, self._passing = {}, None
        self._unfit, self.members = None, []
        try:
            refuse_here(self.shipped.looked)
        except UnfitNodeError as error:  # `step` raises it; Tune would not report it here
            self._unfit = error
            return
        self.members = [Member(given, self.shipped) for given in self._given.members()]
        for member in self.members:
            try:
                member.build(None if self._team is None else self._team.gather(config))
                if self._team is not None:
                    self._team.take_up(member.sessions)
            except UnfitNodeError as error:  # of another worker
                self._unfit = error
            except (Exception, SystemExit) as error:  # `step` reports it; Tune would not report it here
                self._break(member, error)


def _free_memory() -> None:
    """Free the memory of trainings that were let go, also where the traceback of an error still holds one."""
    gc.collect()
    torch.cuda.empty_cache()  # memory that one stream let go is given to another one only after this
