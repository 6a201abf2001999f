"""Uploads W&B runs that were kept offline, with W&B's own ``wandb sync``.

W&B marks uploaded runs, so an interrupted upload continues where it stopped.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.tracking import UNSENT

# W&B's client retries for ever; after this many seconds without progress the server counts as unreachable.
STALL: Final = 120.0
# W&B's messages about a file that a training still writes, or that is incomplete after a crash.
UNFINISHED: Final = ("incomplete record", "error getting next record: EOF")
ADDRESS: Final = re.compile(r"View run .* at (\S+)$")
# Variables that would silence W&B, or keep W&B from the server.
IN_THE_WAY: Final = ("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET")


@dataclass(frozen=True)
class OfflineRun:
    """The folder of one offline W&B run.

    Attributes:
        path: the folder.
        sent: whether the folder is on an object storage, with W&B's mark of an uploaded run.
    """

    path: Path
    sent: bool = False

    @property
    def id(self) -> str:
        """The id of the run: the text after ``run-<day>_<time>-`` in the folder's name."""
        return self.path.name.removeprefix("offline-").split("-", 2)[-1]

    @property
    def uploaded(self) -> bool:
        """Whether W&B has marked the run as uploaded."""
        return self.sent or any(self.path.glob("*.wandb.synced"))


@dataclass(frozen=True)
class Upload:
    """The result of an upload.

    Attributes:
        uploaded: the runs that are uploaded now, in order.
        unfinished: the runs with an incomplete file; the part that W&B could read is uploaded.
        failed: all other runs.
        addresses: run id -> web address, for the runs that W&B reached.
        reasons: W&B's messages about failed runs; empty where there is none.
        stalled: whether the upload was ended for lack of progress.
    """

    uploaded: Sequence[OfflineRun]
    unfinished: Sequence[OfflineRun]
    failed: Sequence[OfflineRun]
    addresses: Mapping[str, str] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    stalled: bool = False


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Return the W&B runs of a run's folder that are not completely uploaded, the oldest first."""
    kept = sorted((folder / "wandb").glob("offline-run-*"))
    unsent = sorted(path.parent for path in (folder / "wandb").glob(f"run-*/{UNSENT}"))
    return [OfflineRun(path) for path in [*kept, *unsent] if path.is_dir()]


def offline_of(run: RunFolder) -> list[OfflineRun]:
    """Return the same for a run that may be on an object storage, whose files are not brought to this machine.

    Raises:
        StorageError: the storage refuses or fails.
    """
    if run.remote is None:
        return offline_runs(run.path)
    files: dict[str, list[str]] = {}
    for name in run.remote.objects.names("wandb"):
        folder, _, file = name.removeprefix("wandb/").partition("/")
        files.setdefault(folder, []).append(file)
    return [
        OfflineRun(run.path / "wandb" / folder, sent=any(name.endswith(".wandb.synced") for name in names))
        for folder, names in sorted(files.items())
        if folder.startswith("offline-run-") or UNSENT in names
    ]


def upload(
    runs: Sequence[OfflineRun], *, entity: str | None = None, project: str | None = None, stall: float = STALL
) -> Upload:
    """Upload runs to the server of W&B's settings; without entity or project, each run's own ones are used.

    Args:
        runs: offline runs that are not uploaded yet.
        entity: the user or team.
        project: the project.
        stall: the upload is ended after this many seconds without progress.
    """
    lines, stalled = _run(_command(runs, entity, project), runs, stall)
    uploaded = [run for run in runs if run.uploaded]
    unfinished = [run for run in runs if run not in uploaded and _is_unfinished(run, lines)]
    failed = [run for run in runs if run not in uploaded and run not in unfinished]
    return Upload(uploaded, unfinished, failed, _addresses(lines), _reasons(lines), stalled)


def _command(runs: Sequence[OfflineRun], entity: str | None, project: str | None) -> list[str]:
    to = [word for name, value in (("--entity", entity), ("--project", project)) if value for word in (name, value)]
    return [sys.executable, "-m", "wandb", "sync", "--include-online", *to, *(str(run.path) for run in runs)]


def _run(command: Sequence[str], runs: Sequence[OfflineRun], stall: float) -> tuple[list[str], bool]:
    """Run W&B's command; return the lines that the command wrote, and whether it was ended for lack of progress."""
    environment = {name: value for name, value in os.environ.items() if name not in IN_THE_WAY}
    environment["WANDB_DIR"] = str(runs[0].path.parents[1])  # otherwise W&B writes logs to the current folder
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        return _watch(process, runs, stall)
    finally:
        _end(process)


def _watch(process: subprocess.Popen[str], runs: Sequence[OfflineRun], stall: float) -> tuple[list[str], bool]:
    """Gather lines until the process ends, or until ``stall`` seconds pass without a new line or a newly marked run."""
    news: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, news), daemon=True)
    reader.start()
    lines: list[str] = []
    seen: Any = None
    last = time.monotonic()
    while reader.is_alive() or not news.empty():
        with suppress(queue.Empty):
            lines.append(news.get(timeout=min(0.2, stall)))
        sign = (len(lines), sum(run.uploaded for run in runs))
        last, seen = (last, seen) if sign == seen else (time.monotonic(), sign)
        if time.monotonic() - last > stall:
            return lines, True
    return lines, False


def _read(process: subprocess.Popen[str], news: queue.SimpleQueue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        news.put(line.rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and the service that the process started; otherwise the service would keep running."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, what)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


def _is_unfinished(run: OfflineRun, lines: Sequence[str]) -> bool:
    return any(run.path.name in line and any(words in line for words in UNFINISHED) for line in lines)


def _addresses(lines: Sequence[str]) -> dict[str, str]:
    found = [match[1] for line in lines if (match := ADDRESS.search(line))]
    return {address.rpartition("/")[2]: address for address in found}


def _reasons(lines: Sequence[str]) -> list[str]:
    """Return W&B's errors and the last line of a traceback, but no errors of unfinished files."""
    said = [line.removeprefix("wandb: ").removeprefix("ERROR ") for line in lines if "ERROR" in line or "rror:" in line]
    told = [line for line in said if not any(words in line for words in UNFINISHED)]
    return list(dict.fromkeys(told))
