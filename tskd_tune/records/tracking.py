"""Weights & Biases, offline first, and never in the way: no call can fail or stall a training.

Every call to W&B is made on a thread of its own, in order. The first one that raises, or a finish that outlasts
its deadline, ends the tracking of that run with one sentence, and training goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import netrc
import os
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlparse

logger = logging.getLogger(__name__)

PROJECT: Final = "tskd-tune"
PHASES: Final = {"general": 0, "memorize": 1, "review": 2, "memorize+review": 3}
ID_LENGTH: Final = 128
# Variables that name one run: each training has names of its own, so they are taken out of the way.
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
# A file in the folder of an online run of which the server did not get everything.
UNSENT: Final = "unsent"


class Tracker(Protocol):
    """Where the numbers of one training, one seed of one point, are sent as they come.

    Attributes:
        warning: the sentence that says what of it went wrong, or None.
    """

    warning: str | None

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin, or go on after a resume, with what is known of the run as plain data."""

    def log(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Send what an epoch showed: the keys of a history line."""

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        """Send the last facts and end."""


@dataclass(frozen=True)
class Place:
    """Where a sweep's YAML sends W&B runs; W&B's own variables and files stand above it."""

    project: str | None = None
    entity: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Place:
        """Read the place that a resolved sweep names; a single training names none."""
        return cls(**(document.get("wandb") or {}))

    def project_in(self, known: Any) -> str:
        """Return the project, given W&B's settings."""
        return str(known.project or self.project or PROJECT)

    def entity_in(self, known: Any) -> str | None:
        """Return the user or team, given W&B's settings; None for the key's own."""
        return known.entity or self.entity


@dataclass(frozen=True)
class Connection:
    """What one look at W&B's server found, for all runs of a sweep.

    Attributes:
        offline: None where runs go to the server; else why they stay offline, empty where nobody asked for a server.
    """

    offline: str | None

    @classmethod
    def probe(cls, patience: float = 5.0) -> Connection:
        """Look once, for at most so many seconds."""
        if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
            return cls("")  # W&B takes seconds to import
        return cls(_why_offline(account(), patience))

    @property
    def warning(self) -> str | None:
        """The sentence for whoever asked for a server; None where there is nothing to say."""
        return _kept_offline(self.offline) if self.offline else None


class WandbTracker:
    """One W&B run; several may be open in one process.

    Without a key a run is kept offline, under ``folder/wandb``, for ``wandb sync``. W&B's own environment variables
    are respected (``WANDB_MODE``, ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_BASE_URL``).

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
        name: str | None = None,
        place: Place = Place(),
        job_type: str = "train",
        deadline: float = 20.0,
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
            name: what names the W&B run beside the seed: the identity of the training; None for the trial's id, by
                which runs of folders of format 1 go.
            place: project and entity of the sweep's file.
            job_type: W&B's word for the kind of the run.
            deadline: seconds that reaching the server and finishing may take, each.
            key: what tells this sweep from every other (see `run_key`); None reads it from the folder.
            connection: what a look at the server found; None looks when the run starts.
        """
        suffix = f", seed {seed}"
        self.identity: dict[str, Any] = {
            "dir": str(folder),
            "resume": "allow",
            "reinit": "create_new",
            "id": run_id(run_key(folder, sweep) if key is None else key, name or run, seed),
            "name": f"{arm[: ID_LENGTH - len(suffix)]}{suffix}",
            "group": arm[:ID_LENGTH],
            "job_type": job_type,
        }
        self.facts = {"sweep": sweep, "trial": run, "seed": seed, "arm": arm}
        self.place = place
        self.deadline = deadline
        self.warning: str | None = None
        self._connection = connection
        self._facts: dict[str, Any] = {}
        self._online = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._wandb_run: Any = None
        self._off = os.environ.get("WANDB_MODE") == "disabled"

    def start(self, config: Mapping[str, Any]) -> None:
        """Begin in the background; ``config`` is the resolved experiment with what is to be searched by."""
        if self._off or self._thread is not None:
            return
        facts = {**config, **self.facts}
        self._thread = threading.Thread(target=self._work, name=f"wandb {self.identity['id']}", daemon=True)
        self._thread.start()
        self._jobs.put(lambda: self._begin(facts))

    def log(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Send an epoch's metrics; ``phase`` goes as its word and as ``phase_code`` (see `PHASES`).

        An epoch that is run again after a resume is W&B's to drop: its step is the epoch.
        """
        line = {**metrics, "epoch": epoch}
        self._put(lambda: self._send(line))

    def finish(self, summary: Mapping[str, Any], *, failed: bool = False) -> None:
        """End the run, waiting until the deadline; what was not sent by then is left for ``wandb sync``."""
        last = dict(summary)
        self._put(lambda: self._end(last, failed))
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(self.deadline)
        if self._thread.is_alive():
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
        """Keep the rest of an online run that failed in an offline one, beginning with what failed."""
        self._online = False
        self._mark_unsent()
        self.identity["id"] += "-offline"
        try:
            self._open(offline=True)
            job()
        except (Exception, SystemExit):
            return False
        self._say(f"the server stopped taking this run ({reason}), so the rest is kept offline; `tskd-tune sync` it")
        return True

    def _begin(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        for name in OWN_NAMES:
            os.environ.pop(name, None)
        connection = self._connection or Connection(_why_offline(account(), self.deadline / 4))
        if connection.offline is None:
            try:
                self._open(offline=False)
                self._online = True
                return
            except Exception as error:
                # The service keeps the id of a run that the server refused, so the offline one needs its own.
                self._say(_kept_offline(f"the server refused it ({_first_line(error)}); the run"))
                self.identity["id"] += "-offline"
        elif connection.offline:
            self._say(_kept_offline(connection.offline))
        self._open(offline=True)

    def _open(self, *, offline: bool) -> None:
        import wandb  # here, because it takes seconds and a disabled tracker needs none of it

        known = account()
        where = {"project": self.place.project_in(known), "entity": self.place.entity_in(known)}
        mode: dict[str, Any] = {"mode": "offline"} if offline else {}
        common = {**where, "config": self._facts, "settings": self._settings(wandb)}
        self._wandb_run = wandb.init(**common, **self.identity, **mode)
        self._wandb_run.define_metric("*", step_metric="epoch")

    def _mark_unsent(self) -> None:
        """Leave word in the folder of an online run that its file has more than the server."""
        files = getattr(self._wandb_run, "dir", None)
        with suppress(OSError):
            if files:
                (Path(files).parent / UNSENT).touch()

    def _settings(self, wandb: Any) -> Any:
        return wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            symlink=False,
            init_timeout=self.deadline / 4,
            finish_timeout=self.deadline * 0.75,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )

    def _send(self, line: dict[str, Any]) -> None:
        if "phase" in line:
            line["phase_code"] = PHASES[line["phase"]]
        self._wandb_run.log(line, step=line["epoch"], commit=True)

    def _end(self, summary: dict[str, Any], failed: bool) -> None:
        self._wandb_run.summary.update(summary)
        self._wandb_run.finish(exit_code=int(failed))

    def _give_up(self, reason: str) -> None:
        self._off = True
        if self._online:
            self._mark_unsent()
        self._say(f"tracking of this run ended ({reason}); training goes on, the run's rows and history are complete")

    def _say(self, what: str) -> None:
        """Keep the sentence, which is alike for all runs with the same trouble, and log it with the run."""
        self.warning = f"W&B: {what}"
        logger.warning("%s (run %s)", self.warning, self.identity["id"])


def account() -> Any:
    """Return W&B's settings: the server, key, entity and project that its files and variables name."""
    import wandb

    return wandb.setup(settings=wandb.Settings(silent=True)).settings


def run_id(key: str, name: str, seed: int) -> str:
    """Return the id of a W&B run: a function of the sweep's key, the training's name and its seed."""
    # W&B allows these characters only.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{key}-{name}-seed{seed}")[-ID_LENGTH:].lstrip("-")


def run_key(folder: Path, sweep: str) -> str:
    """Return what tells a sweep's W&B runs from those of any other sweep, also of one with the same name.

    It is written when the run's folder is made, so that it stays when the folder is moved. Folders of earlier versions
    have none and keep the ids that they had; where there is no such folder, its path decides.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{sweep}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return str(state.get("id") or sweep)


def _kept_offline(reason: str) -> str:
    return f"{reason} is kept offline; send it later with `tskd-tune sync`"


def _why_offline(known: Any, patience: float) -> str | None:
    """Return None for online, the reason for offline, which is empty where nobody asked for a server."""
    if known.mode in ("offline", "dryrun"):
        return ""
    if not has_key(known):
        return (
            "WANDB_MODE asks for a server but there is no key (`wandb login`); the run" if _asked_for_server() else ""
        )
    away = why_away(known.base_url, patience)
    return f"{away}; the run" if away else None


def why_away(url: str, patience: float) -> str | None:
    """Return None for a server that answers within so many seconds, else a sentence without its full stop."""
    try:
        urllib.request.urlopen(url, timeout=patience).close()
    except urllib.error.HTTPError:
        return None  # it answers, if only to say that there is nothing at its root
    except OSError as error:
        return f"the server {url} is away ({_first_line(error)})"
    return None


def _asked_for_server() -> bool:
    return os.environ.get("WANDB_MODE") in ("online", "run", "shared")


def has_key(settings: Any) -> bool:
    """Return whether W&B's settings, the environment or a netrc file hold a key for the server."""
    if settings.api_key or settings.identity_token_file:
        return True
    places = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    return any(_netrc_knows(Path(place).expanduser(), settings.base_url) for place in places if place)


def _netrc_knows(path: Path, url: str) -> bool:
    try:
        return netrc.netrc(path).authenticators(urlparse(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
