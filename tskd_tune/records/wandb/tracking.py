"""Tracks runs with Weights & Biases, offline if needed; no call to W&B can break or stall a training.

A separate thread makes all calls to W&B, in order. If a call raises an error, or finishing takes longer than the
deadline, the tracking of this run ends with a warning, and training continues. A run whose end takes longer than the
patience is sent while the next training goes on; `settle` waits for such runs when the process ends.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypedDict

from tskd_tune.plain import Json
from tskd_tune.records.wandb.server import (
    ID_LENGTH,
    Connection,
    Place,
    account,
    first_line,
    kept_offline,
    run_id,
    run_key,
)
from tskd_tune.redaction import redacted

if TYPE_CHECKING:
    from wandb import Run  # W&B takes seconds to import

logger = logging.getLogger(__name__)

PHASES: Final = {"general": 0, "memorize": 1, "review": 2, "memorize+review": 3}
# Variables that name one run. Each training has names of its own, so these variables are removed.
OWN_NAMES: Final = (
    "WANDB_RUN_ID",
    "WANDB_NAME",
    "WANDB_RUN_GROUP",
    "WANDB_RUN_NAME",
    "WANDB_JOB_TYPE",
    "WANDB_RESUME",
    "WANDB_RESUME_FROM",
    "WANDB_FORK_FROM",
    "WANDB_SWEEP_ID",
)
ANYWHERE: Final = Place()
# A file that marks the folder of an online run which the server did not receive completely.
UNSENT: Final = "unsent"


class Tracker(Protocol):
    """Receives the numbers of one training while it runs.

    Attributes:
        warning: the sentence that says what went wrong with tracking, or None.
    """

    warning: str | None

    def start(self, config: Mapping[str, Json]) -> None:
        """Begin, or continue after a resume; ``config`` describes the run as plain data."""

    def log(self, epoch: int, metrics: Mapping[str, Json]) -> None:
        """Send the values of an epoch: the keys of a history line."""

    def finish(self, summary: Mapping[str, Json], *, failed: bool = False) -> None:
        """Send the summary and end."""


class Named(TypedDict):
    """The names of a run in W&B, and the folder of the run's files."""

    dir: str
    resume: Literal["allow"]
    reinit: Literal["create_new"]
    id: str
    name: str
    group: str
    job_type: str


class Mode(TypedDict, total=False):
    """Whether W&B stays offline; without the key, W&B's settings decide."""

    mode: Literal["offline"]


class WandbTracker:
    """One W&B run; several may be open in one process.

    Without an API key the run is kept offline, under ``folder/wandb``, for ``wandb sync``. W&B's environment variables
    apply (``WANDB_MODE``, ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_BASE_URL``).

    Attributes:
        warning: the sentence that says why tracking ended early or stayed offline, or None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sweep: str,
        run: str,
        seed: int,
        arm: str,
        under: str = "",
        name: str | None = None,
        place: Place = ANYWHERE,
        job_type: str = "train",
        deadline: float = 20.0,
        patience: float | None = None,
        key: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Name a run.

        Args:
            folder: the run's folder, which holds W&B's files.
            sweep: the name of the sweep.
            run: the trial.
            seed: the seed.
            arm: the arm.
            under: the teacher in the name of the W&B run, as in ``, teacher 1``, where arms have several.
            name: the identity of the training, which names the W&B run together with the seed; None: the trial's id, as
                for folders of format 1.
            place: project and entity of the sweep's file.
            job_type: W&B's word for the kind of the run.
            deadline: seconds allowed for reaching the server, and again for finishing.
            patience: seconds that `finish` waits; a run that takes longer ends in the background, until the deadline.
                None: the deadline.
            key: the unique key of this sweep (see `run_key`); None reads the key from the folder.
            connection: whether the server can be reached; None checks when the run starts.
        """
        suffix = f"{under}, seed {seed}"
        self.identity: Named = {
            "dir": str(folder),
            "resume": "allow",
            "reinit": "create_new",
            "id": run_id(run_key(folder, sweep) if key is None else key, name or run, seed),
            "name": f"{arm[: ID_LENGTH - len(suffix)]}{suffix}",
            "group": arm[:ID_LENGTH],
            "job_type": job_type,
        }
        self.facts: dict[str, Json] = {"sweep": sweep, "trial": run, "seed": seed, "arm": arm}
        self.place = place
        self.deadline = deadline
        self.patience = deadline if patience is None else min(patience, deadline)
        self.warning: str | None = None
        self._connection = connection
        self._facts: Mapping[str, Json] = {}
        self._online = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._wandb_run: Run | None = None
        self._off = os.environ.get("WANDB_MODE") == "disabled"

    def start(self, config: Mapping[str, Json]) -> None:
        """Begin in the background; ``config`` is the resolved experiment with the values to search for in W&B."""
        if self._off or self._thread is not None:
            return
        facts: dict[str, Json] = {**config, **self.facts}
        thread = threading.Thread(target=self._work, name=f"wandb {self.identity['id']}", daemon=True)
        thread.start()
        self._thread = thread  # not before: a thread whose start was interrupted cannot be joined
        self._jobs.put(lambda: self._begin(facts))

    def log(self, epoch: int, metrics: Mapping[str, Json]) -> None:
        """Send an epoch's metrics; ``phase`` is sent as a word and as the number ``phase_code`` (see `PHASES`).

        The epoch is W&B's step, so W&B drops an epoch that is trained again after a resume.
        """
        line = {**metrics, "epoch": epoch}
        self._put(lambda: self._send(epoch, line))

    def use(self, work: Callable[[Run], None]) -> None:
        """Do something else with the run, such as to log an artifact; a repetition must do no harm."""
        self._put(lambda: work(self._opened()))

    def finish(self, summary: Mapping[str, Json], *, failed: bool = False) -> None:
        """End the run, waiting for the patience; data that is unsent at the deadline is kept for ``wandb sync``."""
        last = dict(summary)
        self._put(lambda: self._end(last, failed))
        if self._thread is None:
            return
        self._jobs.put(None)
        until = time.monotonic() + self.deadline
        # While an earlier run is still being sent, the server is slow or away, and waiting would seldom help.
        is_sending = any(tracker._thread is not None and tracker._thread.is_alive() for tracker, _ in _ENDING)
        self._thread.join(0.0 if is_sending else self.patience)
        if self._thread.is_alive() and self.patience < self.deadline:
            _ENDING.append((self, until))
        else:
            self._leave()

    def _leave(self) -> None:
        """Forget the thread; if it still sends, tracking of this run ends here."""
        if self._thread is not None and self._thread.is_alive():
            self._give_up(f"it did not finish within {self.deadline:g} s")
        self._thread = None

    def _put(self, job: Callable[[], None]) -> None:
        if self._thread is not None and not self._off:
            self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._off:
                continue
            try:
                job()
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}"
                if not (self._online and self._goes_on_offline(job, reason)):
                    self._give_up(reason)

    def _goes_on_offline(self, job: Callable[[], None], reason: str) -> bool:
        """Continue an online run that failed as an offline run, beginning with the call that failed."""
        self._online = False
        self._mark_unsent()
        self.identity["id"] += "-offline"
        try:
            self._open(offline=True)
            job()
        except (Exception, SystemExit):
            return False
        self._say(
            f"the server stopped accepting this run ({reason}), so the rest of the run is kept offline; upload it"
            " later with `tskd-tune sync`"
        )
        return True

    def _begin(self, facts: Mapping[str, Json]) -> None:
        self._facts = facts
        for name in OWN_NAMES:
            os.environ.pop(name, None)
        connection = self._connection or Connection.probe(self.deadline / 4)
        if connection.offline is None:
            try:
                self._open(offline=False)
                self._online = True
                return
            except Exception as error:
                # W&B's service keeps the id of a run that the server refused, so the offline run needs another id.
                self._say(kept_offline(f"the server refused it ({first_line(error)}); the run"))
                self.identity["id"] += "-offline"
        elif connection.offline:
            self._say(kept_offline(connection.offline))
        self._open(offline=True)

    def _open(self, *, offline: bool) -> None:
        import wandb  # here, because the import takes seconds and a disabled tracker does not need W&B

        known = account()
        mode: Mode = {"mode": "offline"} if offline else {}
        run = wandb.init(
            project=self.place.project_in(known),
            entity=self.place.entity_in(known),
            config=dict(self._facts),
            settings=wandb.Settings(**_settings(self.deadline)),
            **self.identity,
            **mode,
        )
        run.define_metric("*", step_metric="epoch")
        self._wandb_run = run

    def _mark_unsent(self, is_unsent: bool = True) -> None:
        """Mark the folder of an online run whose file has data that the server does not have, or remove the mark."""
        files = getattr(self._wandb_run, "dir", None)
        with suppress(OSError):
            if files:
                mark = Path(files).parent / UNSENT
                mark.touch() if is_unsent else mark.unlink(missing_ok=True)

    def _send(self, epoch: int, line: Mapping[str, Json]) -> None:
        code = {"phase_code": PHASES[str(line["phase"])]} if "phase" in line else {}
        self._opened().log({**line, **code}, step=epoch, commit=True)

    def _end(self, summary: Mapping[str, Json], failed: bool) -> None:
        self._opened().summary.update(dict(summary))
        if self._online:
            self._mark_unsent()  # for a process that is killed before all is sent
        try:
            self._opened().finish(exit_code=int(failed))
        except TimeoutError:  # the run's own file has everything
            self._say(kept_offline("the server did not take all of this run in time; the rest"))
            return
        if self._online and not self._off:
            self._mark_unsent(False)

    def _opened(self) -> Run:
        assert self._wandb_run is not None, "jobs are done in order, and the first one opens the run"
        return self._wandb_run

    def _give_up(self, reason: str) -> None:
        self._off = True
        if self._online:
            self._mark_unsent()
        self._say(f"tracking of this run ended ({reason}); training goes on, the run's rows and history are complete")

    def _say(self, what: str) -> None:
        """Keep the warning, and log it with the run; the same problem gives the same warning in all runs."""
        self.warning = f"W&B: {redacted(what)}"
        logger.warning("%s (run %s)", self.warning, self.identity["id"])


# The runs whose end is being sent in the background, and when each is given up.
_ENDING: list[tuple[WandbTracker, float]] = []


def settle(seconds: float = 20.0) -> None:
    """Wait for the runs that end in the background: each until its deadline, all together for so many seconds."""
    latest = time.monotonic() + seconds
    while _ENDING:
        tracker, until = _ENDING.pop(0)
        if tracker._thread is not None:
            tracker._thread.join(max(0.0, min(until, latest) - time.monotonic()))
        tracker._leave()


def _settings(deadline: float) -> Mapping[str, bool | float | str]:
    """Return the settings that keep W&B quiet, fast and away from the code."""
    return {
        "silent": True,
        "console": "off",
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "symlink": False,
        "init_timeout": deadline / 4,
        "finish_timeout": deadline * 0.75,
        "finish_timeout_raises": True,  # otherwise a run that is sent in part looks like one that is sent
        "x_disable_machine_info": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_save_requirements": False,
    }
